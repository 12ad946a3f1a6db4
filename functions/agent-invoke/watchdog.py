"""Ending what takes too long: one thread for all deadlines of a process; a timer for each would be a thread for each."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class Watchdog:
    """Calls back what has not ended by its deadline. Thread-safe; the thread starts with the first deadline.

    It is woken for a deadline only when that is nearer than all others, which hardly ever happens where all calls may
    take the same time.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Watched]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def at(self, deadline: float, cut: Callable[[], None]) -> Iterator[Watched]:
        """Call `cut`, in the thread of the watchdog, if this block has not ended at `deadline` (of time.monotonic).

        `cut` must be quick and must not raise. It never runs after the block's end, or after `end` of what is given.
        """
        watched = Watched(cut)
        with self._changed:
            heapq.heappush(self._waiting, (deadline, next(self._numbers), watched))
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                self._thread.start()
            elif self._waiting[0][2] is watched:
                self._changed.notify()
        try:
            yield watched
        finally:
            watched.end()
            self._forget_ended()

    def _forget_ended(self) -> None:
        with self._changed:
            while self._waiting and self._waiting[0][2].ended:
                heapq.heappop(self._waiting)

    def _watch(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                if not self._waiting:
                    self._changed.wait()
                    continue
                deadline, _, watched = self._waiting[0]
                if deadline > now:
                    self._changed.wait(deadline - now)
                    continue
                heapq.heappop(self._waiting)
            watched.late()


class Watched:
    """A block that runs: its end and its being cut off exclude each other."""

    def __init__(self, cut: Callable[[], None]) -> None:
        self._cut = cut
        self._lock = threading.Lock()
        self.ended = False

    def end(self) -> None:
        """It is over: from now on it is not cut off."""
        with self._lock:
            self.ended = True

    def late(self) -> None:
        """Cut it off, unless it is over."""
        with self._lock:
            if not self.ended:
                self._cut()


def owned_stream(httpx: ModuleType) -> type:
    """The class of a response's stream that says when the connection is no longer the response's, before it is given back.

    `ends` are called then. Made from httpx when that is there: importing it costs a start too much.
    """

    class OwnedStream(httpx.SyncByteStream):  # type: ignore[misc, name-defined]  # of a module that comes later
        def __init__(self, stream: Any) -> None:
            self._stream = stream
            self.ends: list[Callable[[], None]] = []

        def __iter__(self) -> Iterator[bytes]:
            yield from self._stream

        def close(self) -> None:
            for end in self.ends:
                end()
            self._stream.close()

    return OwnedStream
