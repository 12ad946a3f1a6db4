"""Reading rows, and waiting until there is something to read."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from readers import Reader

from common.database import Database
from common.errors import NotFound
from common.notifications import Notifications

FINISHED = ("completed", "failed")
HISTORY_LIMIT = 200  # turns of a session that are shown, the newest
_RECHECK_SECONDS = 2.0  # a notification may be missed while its connection is cut
_UNRECORDED_SECONDS = 5.0  # how long a stream waits for a request that is still on its way
_UNRECORDED_RECHECK = 0.02  # when it looks again for it, then after twice that …: recording a request notifies nobody


@dataclass
class Position:
    """The last piece of an answer that a reader has, 0 0 for none. It moves on as the reader does."""

    attempt: int = 0
    seq: int = 0


class Waiting:
    """Reads as a reader who may see it. At most `slots` threads wait at once; who comes then is answered at once."""

    def __init__(self, database: Database, notifications: Notifications, *, slots: int) -> None:
        self._database = database
        self._notifications = notifications
        self._slots = threading.BoundedSemaphore(slots)

    def find(self, request_id: str, reader: Reader) -> dict[str, Any] | None:
        """The request's row, or None when it is not recorded (yet).

        Raises Forbidden when it is somebody else's.
        """
        row: dict[str, Any] | None = self._database.step("get_request", {"request_id": request_id})
        if row is not None:
            reader.require_owner(row)
        return row

    def request(self, request_id: str, reader: Reader, seconds: float) -> dict[str, Any]:
        """The request's row once it is finished, or as it is after `seconds`.

        Raises NotFound when it is not recorded by then, Forbidden when it is somebody else's.
        """
        row = self.find(request_id, reader) if seconds <= 0 else None
        if seconds > 0:
            for row in self.changes(request_id, reader, seconds):
                if row is not None and row["status"] in FINISHED:
                    break
        if row is None:
            raise NotFound("There is no such request, or it is not recorded yet.")
        return row

    def recorded(self, request_id: str, reader: Reader) -> dict[str, Any]:
        """The request's row as soon as there is one, within a few seconds. Raises as `request` does."""
        for row in self.changes(request_id, reader, _UNRECORDED_SECONDS, unrecorded=_UNRECORDED_RECHECK):
            if row is not None:
                return row
        raise NotFound("There is no such request, or it is not recorded yet.")

    def changes(
        self, request_id: str, reader: Reader, seconds: float, *, unrecorded: float = _RECHECK_SECONDS
    ) -> Iterator[dict[str, Any] | None]:
        """The row now and whenever it may have ended, for at most `seconds`; None while it is not recorded.

        `unrecorded`: after how many seconds to look again for one that is not, at first; then after longer and longer.
        """

        def told(row: str) -> dict[str, Any]:
            found: dict[str, Any] = json.loads(row)
            reader.require_owner(found)
            return found

        return self._watch(request_id, seconds, lambda: self.find(request_id, reader), told, unrecorded=unrecorded)

    def chunks(self, request_id: str, seconds: float, position: Position) -> Iterator[dict[str, Any] | None]:
        """The request's status and the pieces of its answer after `position`, now and whenever there may be more."""
        self._database.step("follow_request", {"request_id": request_id})

        def look() -> dict[str, Any] | None:
            after = {"attempt": position.attempt, "seq": position.seq}
            found: dict[str, Any] | None = self._database.step("get_chunks", {"request_id": request_id, **after})
            return found

        return self._watch(request_id, seconds, look, until_draining=True)

    def _watch(
        self,
        request_id: str,
        seconds: float,
        look: Callable[[], dict[str, Any] | None],
        told: Callable[[str], dict[str, Any]] | None = None,
        *,
        unrecorded: float = _RECHECK_SECONDS,
        until_draining: bool = False,
    ) -> Iterator[dict[str, Any] | None]:
        if not self._slots.acquire(blocking=False):
            yield look()
            return
        try:
            deadline = time.monotonic() + seconds
            with self._notifications.waiter(request_id) as woken:
                while True:
                    woken.look()
                    row = told(woken.told) if told and woken.told else look()
                    yield row
                    left = deadline - time.monotonic()
                    if left <= 0 or (until_draining and self._notifications.draining):
                        return
                    woken.wait(min(left, unrecorded if row is None else _RECHECK_SECONDS))
                    unrecorded = min(2 * unrecorded, _RECHECK_SECONDS)
        finally:
            self._slots.release()

    def trace(self, request_id: str, reader: Reader) -> dict[str, Any]:
        """The request's times.

        Raises NotFound when it is not recorded, Forbidden when it is somebody else's.
        """
        row: dict[str, Any] | None = self._database.step("get_trace", {"request_id": request_id})
        if row is None:
            raise NotFound("There is no such request, or it is not recorded yet.")
        reader.require_owner(row)
        return row

    def session(self, session_id: str, reader: Reader) -> dict[str, Any]:
        """The session's row with its newest turns.

        Raises NotFound when there is none, Forbidden when it is somebody else's.
        """
        try:
            key = str(uuid.UUID(session_id))
        except ValueError:
            raise NotFound("There is no such session.") from None
        row: dict[str, Any] | None = self._database.step("get_session", {"session_id": key, "limit": HISTORY_LIMIT})
        if row is None:
            raise NotFound("There is no such session.")
        turns = row["turns"]
        reader.require_owner({**row, "integration_key": turns[-1]["integration_key"] if turns else ""})
        return row
