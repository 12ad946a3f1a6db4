"""A request's state as server-sent events (HTML standard, section "Server-sent events"), resumable by Last-Event-ID."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from flask import Request
from pydantic_core import to_json
from readers import Reader
from views import request_view
from waiting import FINISHED, Waiting

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MAX_SECONDS = 600.0  # then the stream ends and the reader resumes it: a thread is not held for ever
_COMMENT_SECONDS = 15.0  # keeps proxies from closing a quiet stream, and notices readers that went away
_NUMBERS = {"queued": 1, "processing": 2, "completed": 3, "failed": 3}


def last_event_id(request: Request) -> int:
    """The number of the last event that the reader has, 0 for none."""
    raw = request.headers.get("Last-Event-ID", "")
    return int(raw) if raw.isdigit() and len(raw) < 10 else 0


def events(waiting: Waiting, first: dict[str, Any], reader: Reader, last: int) -> Iterator[bytes]:
    """One event per state that the reader has not seen, until the request is finished."""
    told = time.monotonic()
    for row in waiting.changes(first["request_id"], reader, MAX_SECONDS):
        if row is None:
            continue
        number = _NUMBERS[row["status"]]
        if number > last:
            last = number
            told = time.monotonic()
            yield b"id: %d\nevent: status\ndata: %s\n\n" % (number, to_json(request_view(row)))
        elif time.monotonic() - told > _COMMENT_SECONDS:
            told = time.monotonic()
            yield b": still here\n\n"
        if row["status"] in FINISHED:
            return
