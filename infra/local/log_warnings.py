"""The warnings in the processes' JSON logs, as a person at the terminal reads them."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass

from infra.local.console import Console

_SHOWN = (b'"level": "WARNING"', b'"level": "ERROR"', b'"level": "CRITICAL"')
_REPEAT = 10.0  # seconds before the same warning is shown again: a database that is away is said a hundred times
_TOLD = ("status", "detail", "error")  # the fields that say more than the message
_NUMBER = re.compile(r"\d+")
_LENGTH = 300  # characters of a line


@dataclass
class _Seen:
    """When a warning was last shown, and how often it came since."""

    at: float
    since: int = 0


class Warnings:
    """Shows the warnings of the process `name`, each kind at most once in ten seconds."""

    def __init__(self, name: str, console: Console) -> None:
        self._name = name
        self._console = console
        self._seen: dict[str, _Seen] = {}

    def read(self, line: bytes) -> None:
        """Take a line of the log; show it when it is a warning or worse."""
        if not any(level in line for level in _SHOWN):
            return
        words, request = _read(line)
        kind = _NUMBER.sub("#", words)
        now = time.monotonic()
        seen = self._seen.get(kind)
        if seen is not None and now - seen.at <= _REPEAT:
            seen.since += 1
            return
        more = f" ({seen.since} more like it before)" if seen is not None and seen.since else ""
        self._seen = {old: one for old, one in self._seen.items() if now - one.at <= _REPEAT} | {kind: _Seen(now)}
        self._console.warn(f"{self._name}: {words}{request}{more}")


def _read(line: bytes) -> tuple[str, str]:
    """Give what a line says, on one line, and which request it is about."""
    try:
        record = json.loads(line)
        told = [f"{name}={record[name]}" for name in _TOLD if record.get(name) is not None]
        words = " ".join([record["level"], str(record["message"]), *told])
    except (ValueError, KeyError, TypeError):
        return " ".join(line.decode(errors="replace").split())[:_LENGTH], ""
    request = f" (request {record['request_id']})" if "request_id" in record else ""
    return " ".join(words.split())[:_LENGTH], request
