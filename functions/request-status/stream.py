"""A request's state, and its answer while it is written, as server-sent events (HTML standard, "Server-sent events").

Three events: `status` (id 1 queued, 2 processing, 3 finished, with the whole answer), `chunk` (the next piece of text) and
`reset` (the pieces so far do not count: the turn was begun anew, or another agent took it over). The id of a chunk or a
reset is `<attempt>.<number>`; Last-Event-ID resumes after any of them without loss or repeat.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from flask import Request
from pydantic_core import to_json
from readers import Reader
from views import request_view
from waiting import FINISHED, Position, Waiting

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MAX_SECONDS = 600.0  # then the stream ends and the reader resumes it: a thread is not held for ever
_COMMENT_SECONDS = 15.0  # keeps proxies from closing a quiet stream, and notices readers that went away
_NUMBERS = {"queued": 1, "processing": 2, "completed": 3, "failed": 3}
_ID = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?")


class Last(NamedTuple):
    """The last event that a reader has: the number of its status, and the last piece of the answer."""

    status: int
    position: Position


def last_event_id(request: Request) -> Last:
    """What the Last-Event-ID header says, nothing for none or an unknown one."""
    found = _ID.fullmatch(request.headers.get("Last-Event-ID", ""))
    if found is None:
        return Last(0, Position())
    if found[2] is None:
        return Last(int(found[1]), Position())
    # Who has a piece of the answer was told before that it is being worked on.
    return Last(_NUMBERS["processing"], Position(int(found[1]), int(found[2])))


def events(waiting: Waiting, first: dict[str, Any], reader: Reader, last: Last) -> Iterator[bytes]:
    """One event per state and per piece of the answer that the reader has not seen, until the request is finished."""
    request_id = first["request_id"]
    status, position = last
    told = time.monotonic()
    row: dict[str, Any] | None = first
    for seen in _seen(waiting, first, position):
        if seen is None:
            continue
        number = _NUMBERS[seen["status"]]
        if number > status:
            if row is None or row["status"] != seen["status"]:
                row = waiting.find(request_id, reader)
            status, told = number, time.monotonic()
            yield _event(str(number), "status", request_view(row or first))
        for attempt, seq, content in seen["chunks"]:
            if attempt > position.attempt:
                if position.attempt:
                    yield _event(f"{attempt}.0", "reset", {})
                position.attempt, position.seq = attempt, 0
            if seq != position.seq + 1:
                break  # one was lost: the answer will come whole
            position.seq, told = seq, time.monotonic()
            name, data = ("reset", {}) if content is None else ("chunk", {"content": content})
            yield _event(f"{attempt}.{seq}", name, data)
        if seen["status"] in FINISHED:
            return
        if time.monotonic() - told > _COMMENT_SECONDS:
            told = time.monotonic()
            yield b": still here\n\n"


def _seen(waiting: Waiting, first: dict[str, Any], position: Position) -> Iterator[dict[str, Any] | None]:
    if first["status"] in FINISHED:
        yield {"status": first["status"], "chunks": []}
    else:
        yield from waiting.chunks(first["request_id"], MAX_SECONDS, position)


def _event(event_id: str, name: str, data: dict[str, Any]) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (event_id.encode(), name.encode(), to_json(data))
