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
CHUNKS = "chunks"  # more of an answer was written; payload: a request_id
_RECONNECT_SECONDS = 0.5


class Notifications:
    """Wakes threads when a turn of their session, or their request, has ended; with CHUNKS also when more of it was written.

    One background thread, started by the first waiter. While the connection is down nobody is woken, and everybody is woken
    when it is back: a waiter looks for itself whenever `wait` returns, and passes a bound.
    """

    def __init__(self, database: Database, *more: str) -> None:
        self._database = database
        self._channels = (TURNS, *more)
        self._waiters: defaultdict[str, set[threading.Event]] = defaultdict(set)
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
    def waiter(self, key: str) -> Iterator[threading.Event]:
        """An event that is set when something ends for `key` (a session's or a request's id) from now on.

        Look at the state after entering and before waiting: what ended earlier is not told again. Clear the event before
        each look.
        """
        event = threading.Event()
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
                            self._wake(notice.payload.split(" "))
            except psycopg.Error as error:
                log.warning("notifications were cut off", extra={"error": type(error).__name__})
            self._listening.clear()
            self._stopping.wait(_RECONNECT_SECONDS)

    def _wake(self, keys: list[str]) -> None:
        with self._lock:
            for key in keys:
                for event in self._waiters.get(key, ()):
                    event.set()

    def _wake_all(self) -> None:
        with self._lock:
            for events in self._waiters.values():
                for event in events:
                    event.set()
