"""waitress' main loop on epoll: what is polled is kept in the kernel, and told it only when it changes.

waitress asks every connection before each poll whether it wants to read or write. With many connections that wait, as
readers of request-status do, that is most of what its main thread does.
"""

from __future__ import annotations

import select
import time
from contextlib import suppress
from typing import Any

from waitress import wasyncore

HAS_EPOLL = hasattr(select, "epoll")
_ALL_AGAIN_SECONDS = 0.2  # a connection whose wish changed in another thread, without a wake-up, is asked by then


class Poll:
    """The loop of one waitress server, where the system has epoll."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._map: dict[int, Any] = server._map
        self._trigger: int = server.trigger._fileno
        self._epoll = select.epoll()
        self._known: dict[int, tuple[Any, int]] = {}
        self._all_again = 0.0

    def once(self, timeout: float) -> None:
        """Wait for events, at most `timeout` seconds, and have them handled. Only the main thread may call it."""
        now = time.monotonic()
        if now >= self._all_again:
            self._all_again = now + _ALL_AGAIN_SECONDS
            self._ask_all()
        else:
            self._ask(self._server._fileno)  # it looks after idle connections when it is asked
        for descriptor, flags in self._epoll.poll(timeout):
            found = self._map.get(descriptor)
            if found is None:
                continue
            wasyncore.readwrite(found, flags)
            if descriptor == self._trigger or found is self._server:
                self._ask_all()  # another thread changed something, or a connection was taken
            else:
                self._ask(descriptor)

    def ask_all_again(self) -> None:
        """Have `once` look at every connection first."""
        self._all_again = 0.0

    def _ask_all(self) -> None:
        for descriptor in [*self._map, *(self._known.keys() - self._map.keys())]:
            self._ask(descriptor)

    def _ask(self, descriptor: int | None) -> None:
        """Tell the kernel what is wanted of a descriptor now, if that is something else than before."""
        if descriptor is None:
            return
        found = self._map.get(descriptor)
        if found is not None and getattr(found, "will_close", False) and not found.requests:
            found.handle_close()  # not only once it can be written to: its client may never read again
            found = None
        wanted = 0
        if found is not None:
            if found.readable():
                wanted |= select.EPOLLIN  # not EPOLLPRI: one urgent byte, which nobody reads, would be told for ever
            if found.writable() and not found.accepting:
                wanted |= select.EPOLLOUT
        known, flags = self._known.get(descriptor, (None, 0))
        if known is found and flags == wanted:
            return
        # A closed descriptor has left the kernel's list by itself, and its number may be another connection's now.
        if flags:
            with suppress(OSError):
                self._epoll.unregister(descriptor)
        self._known.pop(descriptor, None)
        if wanted:
            with suppress(OSError):  # a thread has closed it meanwhile
                self._epoll.register(descriptor, wanted)
                self._known[descriptor] = (found, wanted)
