"""The log lines of one request, out of the files that the processes write."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

LIMIT = 500  # lines, the newest
_LOOKED_AT = 64 * 1024 * 1024  # bytes at the end of each file
_KNOWN = frozenset({"ts", "timestamp", "level", "function", "logger", "message", "request_id", "taskName"})
_TRIED = frozenset({"delivered", "retried", "dead_lettered"})  # what the broker says of a try

Line = dict[str, Any]


def of_request(directory: Path, request_id: str) -> list[Line]:
    """The lines of all processes that name the request, oldest first: `at`, `function`, `level`, `message`, `fields`."""
    if not request_id:
        return []
    found = [line for path in sorted(directory.glob("*.log*")) for line in _in_file(path, request_id)]
    found.sort(key=lambda line: str(line["at"]))
    return found[-LIMIT:]


def tries(lines: Sequence[Line], event: Mapping[str, Any], delivery: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tries of a delivery, as the broker logged them: when each ended, how long it took, what was answered.

    One that went well at once is not logged: the delivery itself says all of it.
    """
    found = [
        {
            "attempt": line["fields"].get("attempt"),
            "at": line["at"],
            "duration_ms": line["fields"].get("duration_ms") or 0.0,
            "status": line["fields"].get("status"),
            "outcome": line["message"],
        }
        for line in lines
        if line["function"] == "broker"
        and line["message"] in _TRIED
        and line["fields"].get("event_id") == event["id"]
        and line["fields"].get("type") == event["type"]
        and line["fields"].get("trigger") == delivery["trigger"]
    ]
    if found or delivery["attempts"] != 1 or delivery["finished_at"] is None:
        return found
    took, status, outcome = delivery["duration_ms"], delivery["status"], delivery["state"]
    return [{"attempt": 1, "at": delivery["finished_at"], "duration_ms": took, "status": status, "outcome": outcome}]


def _in_file(path: Path, request_id: str) -> Iterator[Line]:
    needle = json.dumps(request_id).encode()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            end = len(whole)
            begin = max(0, end - _LOOKED_AT)
            for _ in range(LIMIT):  # from the end: the newest
                hit = whole.rfind(needle, begin, end)
                if hit < 0:
                    return
                start = whole.rfind(b"\n", 0, hit) + 1
                stop = whole.find(b"\n", hit)
                line = _line(whole[start : stop if stop >= 0 else len(whole)], request_id)
                if line is not None:
                    yield line
                end = start
    except (OSError, ValueError):  # it was just put aside, or is empty
        return


def _line(raw: bytes, request_id: str) -> Line | None:
    try:
        record = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("request_id") != request_id:
        return None
    return {
        "at": record.get("ts") or record.get("timestamp"),
        "function": str(record.get("function", "")),
        "level": str(record.get("level", "INFO")),
        "message": str(record.get("message", "")),
        "fields": {name: value for name, value in record.items() if name not in _KNOWN and value is not None},
    }
