"""waitress, with what a pod needs: problem+json for what never reaches the app, and draining on SIGTERM."""

from __future__ import annotations

import logging
import select
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from waitress.server import create_server

from common.channel import LOOKAHEAD, PATIENCE, Channel, Threads, wake_for
from common.polling import HAS_EPOLL, Poll

log = logging.getLogger(__name__)

# A body over the function's own limit is read up to here, so that the caller hears 413 instead of a closed connection.
_READ_BEYOND = 4 * 1024 * 1024
_BACKLOG = 1024  # connections that wait to be accepted
_LINGER_SECONDS = 0.2  # after the signal: for requests that are on the wire already


class Server:
    """Serves a WSGI app until SIGTERM or SIGINT, then finishes what it began.

    `threads` work on requests, no more than `few` of them while those few are enough (common.channel.Threads).
    `drain_seconds` bounds how long requests in flight may take after the signal. A second signal ends it at once.
    """

    def __init__(
        self, app: Any, *, host: str, port: int, threads: int, body_limit: int, drain_seconds: float, few: int = 1000
    ) -> None:
        self._threads = Threads(threads, few=min(few, threads) if HAS_EPOLL else threads)
        self._server = create_server(
            app,
            host=host,
            port=port,
            threads=threads,
            ident=None,
            max_request_body_size=body_limit + _READ_BEYOND,
            inbuf_overflow=body_limit + _READ_BEYOND,
            connection_limit=max(1000, threads * 4),
            backlog=_BACKLOG,
            channel_timeout=75,
            cleanup_interval=15,
            asyncore_use_poll=True,
            clear_untrusted_proxy_headers=False,
            channel_request_lookahead=LOOKAHEAD,
            _dispatcher=self._threads,
        )
        self._server.channel_class = Channel
        self._server.pull_trigger = wake_for(self._server.trigger)
        self._server.draining = False
        self._loop = Poll(self._server) if HAS_EPOLL else None
        self._drain_seconds = drain_seconds
        self._told = False

    @property
    def draining(self) -> bool:
        """Whether the server was told to stop and only finishes what it has."""
        return self._told

    def load(self) -> tuple[int, int]:
        """How many requests are worked on, and how many wait for a thread; any thread may ask."""
        return self._threads.serving, self._threads.waiting

    def run(self, on_listening: Callable[[], None], on_stopping: Callable[[], None]) -> None:
        """Serve until told to stop. Returns when the last request in flight has been answered, or the time is up.

        `on_listening` is called once, when connections are accepted and signals are heard; `on_stopping` once, when it was
        told to stop.
        """
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        on_listening()
        while not self._told:
            self._poll()
        on_stopping()
        self._close_door()
        begun = time.monotonic()
        while (
            self._busy() or time.monotonic() < begun + _LINGER_SECONDS
        ) and time.monotonic() < begun + self._drain_seconds:
            self._poll()
        if self._busy():
            log.warning("requests were cut off after the draining time", extra={"seconds": self._drain_seconds})
        self._server.task_dispatcher.shutdown(timeout=1)

    def _poll(self) -> None:
        # The timeout bounds how late a signal is noticed: its handler runs at once, but the wait goes on after it.
        if self._loop:
            self._loop.once(PATIENCE if self._threads.look() else 0.2)
        else:
            self._server.asyncore.loop(timeout=0.2, map=self._server._map, use_poll=True, count=1)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        # Only a flag: it may run in the middle of a poll, which iterates over the connections.
        if self._told:
            raise SystemExit(128 + number)
        self._told = self._server.draining = True

    def _close_door(self) -> None:
        """Take no new connections. Who waits to be accepted is still served: the close would reset them."""
        for _ in range(_BACKLOG):
            if not select.select([self._server.socket], [], [], 0)[0]:
                break
            self._server.handle_accept()
        self._server.accepting = False
        self._server.del_channel()
        self._server.socket.close()
        if self._loop:
            self._loop.ask_all_again()

    def _busy(self) -> bool:
        # A thread may be at work for a client that has gone, whose connection is in no list any more.
        return bool(
            self._threads.serving
            or self._threads.waiting
            or any(channel.requests or channel.total_outbufs_len for channel in list(self._server.active_channels.values()))
        )
