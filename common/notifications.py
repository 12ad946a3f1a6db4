"""Waiting for a turn to end without asking again and again: LISTEN on one connection, waiters on events."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from common.database import Database

log = logging.getLogger(__name__)

TURNS = "turns"  # a turn has ended; payload: "<session_id> <request_id>", or only a request_id
ANSWERS = "answers"  # a turn has ended; payload: "<request_id> <the request's row as JSON>"; only where it fits (8 kB)
CHUNKS = "chunks"  # more of an answer was written; payload: a request_id
_RECONNECT_SECONDS = 0.5


class Waiter(threading.Event):
    """Set when something ended for its key, as often as it wants; `told` is the request's row, if it was told (ANSWERS)."""

    told: str | None = None
    heard = 0
    _wanted = 1

    def look(self) -> int:
        """Forget what was heard; call it before each look at the state. What `after` counts from."""
        self.clear()
        self._wanted = self.heard + 1
        return self.heard

    def after(self, ends: int, since: int) -> None:
        """Be set only once so many have ended since then: one look for who is far behind, not one for each before it."""
        self.clear()
        self._wanted = since + ends
        if self.heard >= self._wanted:
            self.set()

    def hear(self, told: str | None) -> None:
        """Something has ended. Called by the one thread that listens."""
        self.told = told or self.told
        self.heard += 1
        if self.heard >= self._wanted:
            self.set()


class Notifications:
    """Wakes threads when a turn of their session, or their request, has ended; with CHUNKS also when more of it was written.

    One background thread, started by the first waiter. While the connection is down nobody is woken, and everybody is woken
    when it is back: a waiter looks for itself whenever `wait` returns, and passes a bound.
    """

    def __init__(self, database: Database, *more: str) -> None:
        self._database = database
        self._channels = (TURNS, *more)
        self._waiters: defaultdict[str, set[Waiter]] = defaultdict(set)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._listening = threading.Event()
        self._stopping = threading.Event()
        self.draining = False

    def start(self) -> None:
        """Nothing to prepare: the first waiter starts the thread."""

    def drain(self) -> None:
        """Wake every waiter: the process is to end, and what can be gone on with elsewhere should be let go (`draining`)."""
        self.draining = True
        self._wake_all()

    def close(self) -> None:
        """Stop listening and wake every waiter."""
        self._stopping.set()
        self._wake_all()

    @contextmanager
    def waiter(self, key: str) -> Iterator[Waiter]:
        """An event that is set when something ends for `key` (a session's or a request's id) from now on.

        Look at the state after entering and before waiting: what ended earlier is not told again. Call its `look` before
        each look.
        """
        event = Waiter()
        with self._lock:
            self._waiters[key].add(event)
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="notifications", daemon=True)
                self._thread.start()
        self._listening.wait(1.0)
        try:
            yield event
        finally:
            with self._lock:
                self._waiters[key].discard(event)
                if not self._waiters[key]:
                    del self._waiters[key]

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                with psycopg.connect(**self._database.dsn(), autocommit=True) as connection:
                    for channel in self._channels:
                        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    self._listening.set()
                    self._wake_all()
                    while not self._stopping.is_set():
                        for notice in connection.notifies(timeout=5.0):
                            self._hear(notice.channel, notice.payload)
            except psycopg.Error as error:
                log.warning("notifications were cut off", extra={"error": type(error).__name__})
            self._listening.clear()
            self._stopping.wait(_RECONNECT_SECONDS)

    def _hear(self, channel: str, payload: str) -> None:
        if channel == ANSWERS:
            key, _, told = payload.partition(" ")
            self._wake([key], told)
        else:
            self._wake(payload.split(" "))

    def _wake(self, keys: list[str], told: str | None = None) -> None:
        with self._lock:
            for key in keys:
                for event in self._waiters.get(key, ()):
                    event.hear(told)

    def _wake_all(self) -> None:
        with self._lock:
            for events in self._waiters.values():
                for event in events:
                    event.set()
