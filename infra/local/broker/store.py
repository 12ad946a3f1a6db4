"""The broker's memory: events and deliveries in one SQLite file.

All writes that wait when the event loop comes round are committed in one transaction (group commit), on the
loop's own thread: handing them to another would cost more than the commit does. The write-ahead log is not
synced: what is committed survives a kill -9 of the process, not a power cut.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.broker.cloudevent import CloudEvent

WAITING, IN_FLIGHT, RETRYING = "waiting", "in_flight", "retrying"  # in_flight is never stored
DELIVERED, DEAD_LETTERED = "delivered", "dead_lettered"

_PRUNE_EVERY = 500  # events
_PRUNE_AT_MOST = 2000  # events looked at in one step
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, request_id TEXT, headers TEXT NOT NULL, data BLOB NOT NULL,
    hops INTEGER NOT NULL, origin TEXT NOT NULL, received_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_request ON events (request_id) WHERE request_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER NOT NULL, number INTEGER NOT NULL, trigger TEXT NOT NULL, function TEXT NOT NULL, errors TEXT,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, due_at REAL NOT NULL, first_attempt_at REAL,
    finished_at REAL, duration_ms REAL, status INTEGER, PRIMARY KEY (seq, number)) WITHOUT ROWID;
"""
_ADD_EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)"
_ADD_DELIVERY = "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CHANGE_DELIVERY = """UPDATE deliveries SET state = ?, attempts = ?, due_at = ?, first_attempt_at = ?,
    finished_at = ?, duration_ms = ?, status = ? WHERE seq = ? AND number = ?"""
_OPEN = "SELECT * FROM deliveries WHERE finished_at IS NULL ORDER BY seq, number"
_TRACE = """SELECT seq, headers, CASE WHEN length(data) <= ? THEN data ELSE x'' END, hops, origin, received_at
    FROM events WHERE request_id = ? ORDER BY seq"""
_LAST_REQUESTS = """SELECT request_id
    FROM (SELECT request_id, seq FROM events WHERE request_id IS NOT NULL ORDER BY seq DESC LIMIT 10 * ?1)
    GROUP BY request_id ORDER BY max(seq) DESC LIMIT ?1"""
_PRUNABLE = """SELECT seq,
    NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.seq = e.seq AND d.finished_at IS NULL)
    FROM events e WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"""


class StoreError(Exception):
    """SQLite did not take it (a full disk, another broker on the file); nothing of it was kept."""


@dataclass(slots=True, eq=False)
class StoredEvent:
    """An event with its place in the order of arrival, its hops left, and who it came from."""

    seq: int
    event: CloudEvent
    hops: int
    origin: str
    received_at: float


@dataclass(slots=True, eq=False)
class Delivery:
    """One event on its way to one Trigger; times are Unix seconds.

    `errors` are the knativeerror* headers of a dead letter, None for a delivery of a Trigger. `stored` is the
    event itself while it is worth keeping in memory. `status` is the last HTTP status as it counted (502 for
    an answer that was no CloudEvent), None if there was no answer.
    """

    seq: int
    number: int
    trigger: str
    function: str
    errors: dict[str, str] | None = None
    state: str = WAITING
    attempts: int = 0
    due_at: float = 0.0
    first_attempt_at: float | None = None
    finished_at: float | None = None
    duration_ms: float | None = None
    status: int | None = None
    stored: StoredEvent | None = None


class Store:
    """The SQLite file at `path`, held by this process alone; raises StoreError if it cannot be opened."""

    def __init__(self, path: Path, keep_events: int) -> None:
        self._keep = keep_events
        self._events: list[tuple[object, ...]] = []
        self._added: list[tuple[object, ...]] = []
        self._changed: list[tuple[object, ...]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._since_pruning = 0
        self._pruned_to = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A killed broker's lock went with its process; one that is there stays: do not wait long for it.
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0.2)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.executescript(_SCHEMA)
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("COMMIT")
            (last,) = self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: {error}") from error
        self._last_seq: int = last

    def next_seq(self) -> int:
        """Return the place of the next event in the order of arrival."""
        self._last_seq += 1
        return self._last_seq

    def write(
        self,
        event: StoredEvent | None = None,
        added: Sequence[Delivery] = (),
        changed: Delivery | None = None,
    ) -> asyncio.Future[None]:
        """Store a new event, new deliveries and one changed delivery together, or nothing of them.

        The future is done when it is committed; it raises StoreError if it could not be.
        """
        if event is not None:
            self._events.append(_event_row(event))
        for delivery in added:
            self._added.append(_delivery_row(delivery))
        if changed is not None:
            row = _delivery_row(changed)
            self._changed.append((*row[5:], *row[:2]))
        loop = asyncio.get_running_loop()
        if not self._waiters:
            loop.call_soon(self._commit)
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        return waiter

    def _commit(self) -> None:
        waiters, self._waiters = self._waiters, []
        events, self._events = self._events, []
        added, self._added = self._added, []
        changed, self._changed = self._changed, []
        failure: StoreError | None = None
        try:
            self._db.execute("BEGIN")
            if events:
                self._db.executemany(_ADD_EVENT, events)
            if added:
                self._db.executemany(_ADD_DELIVERY, added)
            if changed:
                self._db.executemany(_CHANGE_DELIVERY, changed)
            self._since_pruning += len(events)
            if self._since_pruning >= min(_PRUNE_EVERY, self._keep):
                self._since_pruning = 0
                self._prune()
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            failure = StoreError(str(error))
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        for waiter in waiters:
            if waiter.done():
                continue
            if failure is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(failure)

    def _prune(self) -> None:
        """Delete finished events beyond the newest ones that are kept, a bounded number at a time."""
        rows = self._db.execute(_PRUNABLE, (self._pruned_to, self._last_seq - self._keep, _PRUNE_AT_MOST)).fetchall()
        # At the end it starts over, for those that were not finished when it came by.
        self._pruned_to = rows[-1][0] if len(rows) == _PRUNE_AT_MOST else 0
        finished = [(seq,) for seq, is_finished in rows if is_finished]
        self._db.executemany("DELETE FROM deliveries WHERE seq = ?", finished)
        self._db.executemany("DELETE FROM events WHERE seq = ?", finished)

    def open_deliveries(self) -> list[Delivery]:
        """Return all deliveries that are not finished, oldest event first, without their events."""
        return [_delivery(row) for row in self._db.execute(_OPEN)]

    def load(self, seq: int) -> StoredEvent:
        """Return the event at `seq`, which has a delivery and so is in the store."""
        (row,) = self._db.execute(
            "SELECT seq, headers, data, hops, origin, received_at FROM events WHERE seq = ?", (seq,)
        ).fetchall()
        return _stored_event(row)

    def trace(self, request_id: str, most_bytes: int = 0) -> Iterable[tuple[StoredEvent, list[Delivery]]]:
        """Yield the events of a request, oldest first, each with its deliveries.

        Data of more than `most_bytes` are left out.
        """
        rows = self._db.execute(_TRACE, (most_bytes, request_id)).fetchall()
        for row in rows:
            deliveries = self._db.execute("SELECT * FROM deliveries WHERE seq = ? ORDER BY number", (row[0],)).fetchall()
            yield _stored_event(row), [_delivery(delivery) for delivery in deliveries]

    def last_requests(self, limit: int) -> list[str]:
        """Return the requests whose newest event came last, at most `limit`, the newest last."""
        return [request_id for (request_id,) in reversed(self._db.execute(_LAST_REQUESTS, (limit,)).fetchall())]

    def close(self) -> None:
        """Commit what waits and close the file."""
        if self._waiters:
            self._commit()
        self._db.close()


def _event_row(stored: StoredEvent) -> tuple[object, ...]:
    event = stored.event
    return (
        stored.seq, event.get("requestid"), json.dumps(event.headers), event.data,
        stored.hops, stored.origin, stored.received_at,
    )  # fmt: skip


def _stored_event(row: tuple[int, str, bytes, int, str, float]) -> StoredEvent:
    seq, headers, data, hops, origin, received_at = row
    return StoredEvent(seq, CloudEvent(json.loads(headers), data), hops, origin, received_at)


def _delivery_row(delivery: Delivery) -> tuple[object, ...]:
    d = delivery
    return (
        d.seq, d.number, d.trigger, d.function, None if d.errors is None else json.dumps(d.errors),
        d.state, d.attempts, d.due_at, d.first_attempt_at, d.finished_at, d.duration_ms, d.status,
    )  # fmt: skip


def _delivery(row: tuple[Any, ...]) -> Delivery:
    seq, number, trigger, function, errors, *rest = row
    return Delivery(seq, number, trigger, function, None if errors is None else json.loads(errors), *rest)
