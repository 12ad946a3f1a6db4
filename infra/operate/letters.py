"""Dead letters as operators see them: what failed where, what a replay would do, and the event to publish again."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from cloudevents.http import CloudEvent
from psycopg.rows import dict_row
from pydantic import ValidationError

from common import events

_SELECT = """
SELECT d.dead_letter_id AS id, d.event_type AS type, d.event_id, d.event_source AS source, d.request_id, d.destination,
       d.error_code AS code, d.error_data, d.event, d.seen, d.resends, d.created_at, d.updated_at, d.replayed_at,
       r.status AS request_status, r.error_code AS request_error, r.integration_type AS integration,
       r.delivered_at, r.delivery_error
FROM dead_letters d LEFT JOIN request_logs r ON r.request_id = d.request_id
"""
_FILTER = """
WHERE (%(ids)s::bigint[] IS NULL OR d.dead_letter_id = ANY (%(ids)s::bigint[]))
  AND (%(type)s::text IS NULL OR d.event_type = %(type)s OR right(d.event_type, length(%(type)s) + 1) = '.' || %(type)s)
  AND (%(since)s::timestamptz IS NULL OR d.updated_at >= %(since)s)
  AND (%(request_id)s::text IS NULL OR d.request_id = %(request_id)s)
  AND (NOT %(unreplayed)s OR d.replayed_at IS NULL OR d.replayed_at < d.updated_at)
ORDER BY d.dead_letter_id DESC LIMIT %(limit)s
"""
_READ = ("web", "cli")  # integrations whose answers are read; the others' are sent


@dataclass(frozen=True)
class Filter:
    """Which dead letters: None is any. `unreplayed`: not replayed since they last came. `limit` keeps the newest."""

    ids: Sequence[int] | None = None
    type: str | None = None
    since: datetime | None = None
    request_id: str | None = None
    unreplayed: bool = False
    limit: int = 100


@dataclass(frozen=True)
class DeadLetter:
    """A row of dead_letters with the state of its request (`None`: never recorded, or the event names none)."""

    row: dict[str, Any]

    @property
    def id(self) -> int:
        """Its number, by which operators name it."""
        return int(self.row["id"])

    def event(self) -> CloudEvent:
        """The event as it was: the same id, source, attributes and data."""
        kept = self.row["event"]
        data = base64.b64decode(kept["data_base64"]) if "data_base64" in kept else json.dumps(kept.get("data")).encode()
        return CloudEvent(dict(kept["attributes"]), data)

    def why(self) -> str:
        """What the subscriber answered, as far as the broker kept it (knativeerrordata is base64)."""
        raw = self.row["error_data"] or ""
        try:
            return base64.b64decode(raw, validate=True).decode("utf-8", "replace").strip()
        except binascii.Error:
            return str(raw)

    def outlook(self) -> str:
        """What a replay would do now. Terminal states are final: nothing is asked twice, nothing that arrived is resent."""
        known = events.MODELS.get(self.row["type"])
        if known is None:
            return "published again: whoever subscribes to its type gets it"
        try:
            known.model_validate(self.row["event"].get("data"))
        except ValidationError:
            return "refused again: its data are not those of its type"
        status = self.row["request_status"]
        if status is None:
            if self.row["type"] == events.REQUEST_CREATED:
                return "the request is recorded and worked on"
            return "refused again: its request was never recorded, or is past retention"
        if status in ("queued", "processing"):
            if self.row["type"] == events.RESPONSE_READY:
                return "refused again: its request is not finished"
            return "the request goes on where it stopped"
        ended = "is answered" if status == "completed" else f"has failed ({self.row['request_error']})"
        if self.row["integration"] in _READ:
            return f"nothing: the request {ended}, which its person can read"
        if self.row["delivered_at"] is not None:
            return f"nothing: the request {ended}, and that was delivered"
        what = "the answer is" if status == "completed" else "the sentence that says so is"
        return f"the request {ended}; {what} sent again, with the same key"

    def view(self) -> dict[str, Any]:
        """For --json: everything but the event, and what a replay would do."""
        row = {name: value for name, value in self.row.items() if name not in ("event", "error_data")}
        times = {name: _time(value) for name, value in row.items() if isinstance(value, datetime)}
        return {**row, **times, "why": self.why(), "replay": self.outlook()}


def find(connection: psycopg.Connection[Any], which: Filter) -> list[DeadLetter]:
    """The dead letters that match, oldest first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_SELECT + _FILTER, vars(which)).fetchall()
    return [DeadLetter(row) for row in reversed(rows)]


def now(connection: psycopg.Connection[Any]) -> datetime:
    """The database's time, by which dead letters are dated."""
    rows: list[tuple[datetime]] = connection.execute("SELECT clock_timestamp()").fetchall()
    return rows[0][0]


def note_replayed(connection: psycopg.Connection[Any], letter: DeadLetter, at: datetime) -> None:
    """Write down that it was published again. `at` is from before that: it may have failed again since."""
    connection.execute("UPDATE dead_letters SET replayed_at = %s WHERE dead_letter_id = %s", (at, letter.id))


def _time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
