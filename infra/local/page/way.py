"""One request's way with everything that this machine knows of it: tables, broker, stand-ins, logs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import psycopg
from yarl import URL

from infra.cli import records
from infra.local.page import logs
from infra.local.page.letters import Letters
from infra.local.settings import Database

Document = dict[str, Any]

_PATIENCE = aiohttp.ClientTimeout(total=5.0)
_CREATED, _READY = "request.created", "agent.response-ready"


class Ways:
    """Puts ways together. `trace_url` gives the broker's address of a trace, `sent` what the stand-ins got of a request."""

    def __init__(
        self,
        client: aiohttp.ClientSession,
        trace_url: Callable[[str], str],
        database: Callable[[], Database],
        letters: Letters,
        directory: Path,
        sent: Callable[[str], Sequence[Mapping[str, Any]]],
    ) -> None:
        self._client = client
        self._trace_url = trace_url
        self._database = database
        self._letters = letters
        self._directory = directory
        self._sent = sent

    async def of(self, request_id: str) -> Document | None:
        """The way of a request, as far as it has come; None when nothing is known of it."""
        notes: list[str] = []
        events, recorded, lines = await asyncio.gather(
            self._events(request_id, notes),
            self._recorded(request_id, notes),
            asyncio.to_thread(logs.of_request, self._directory, request_id),
        )
        if recorded is None and not events:
            return None
        for event in events:
            for delivery in event["deliveries"]:
                delivery["tries"] = logs.tries(lines, event, delivery)
        known = recorded or {}
        if not known.get("steps") and events:
            known |= _unrecorded(request_id, events) | {"dead_letters": known.get("dead_letters", [])}
        return {
            **known,
            "events": events,
            "deliveries": list(self._sent(request_id)),
            "logs": lines,
            "now": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "note": " ".join(notes),
        }

    async def _events(self, request_id: str, notes: list[str]) -> list[Document]:
        url = URL(self._trace_url(quote(request_id, safe="")), encoded=True).with_query(data="true")
        try:
            async with self._client.get(url, timeout=_PATIENCE) as answer:
                found: list[Document] = (await answer.json())["events"]
                return found
        except (aiohttp.ClientError, TimeoutError, ValueError):
            notes.append("The broker does not answer: its deliveries are missing here.")
            return []

    async def _recorded(self, request_id: str, notes: list[str]) -> Document | None:
        try:
            found = await asyncio.to_thread(self._read, request_id)
            if found is not None and found["dead_letters"]:
                outlooks = await self._letters.of_request(request_id)
                for letter in found["dead_letters"]:
                    letter["replay"] = outlooks.get(letter["id"], {}).get("replay", "")
        except psycopg.Error:
            notes.append("The database does not answer: what is recorded is missing here.")
            return None
        return found

    def _read(self, request_id: str) -> Document | None:
        with psycopg.connect(**self._database().parameters()) as connection:
            return records.read(connection, request_id)


def _unrecorded(request_id: str, events: Sequence[Document]) -> Document:
    """What the events alone say of a request that is in no table."""
    asked = _data(events, _CREATED)
    is_moving = any(each["finished_at"] is None for event in events for each in event["deliveries"])
    attributes = events[0]["attributes"]
    return {
        "request_id": request_id,
        "session_id": attributes.get("sessionid"),
        "integration_type": attributes.get("integration"),
        "status": _data(events, _READY).get("status") or ("queued" if is_moving else "stopped"),
        "trace_id": (attributes.get("traceparent") or "")[3:35] or None,
        "user_id": asked.get("user_id"),
        "question": asked.get("content"),
        "steps": [],
    }


def _data(events: Sequence[Document], kind: str) -> Document:
    for event in events:
        data = event.get("data")
        if str(event["type"]).endswith(kind) and isinstance(data, dict):
            return data
    return {}
