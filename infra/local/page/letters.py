"""Dead letters for the page, by the operators' own code (infra.operate.letters): what there is, and sending one again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import aiohttp
import psycopg

from common import events
from infra.local.settings import Database
from infra.operate import letters

SHOWN = 100  # the newest
_SECONDS = aiohttp.ClientTimeout(total=3.0)


class NotReplayed(Exception):
    """It could not be sent again; the text says why, in a sentence for the person."""


class Letters:
    """Reads and replays. `database` is where the functions' database is, `broker` the URL that takes events."""

    def __init__(self, database: Callable[[], Database], broker: str, client: aiohttp.ClientSession) -> None:
        self._database = database
        self._broker = broker
        self._client = client

    async def newest(self) -> list[dict[str, Any]]:
        """The newest dead letters, the newest first. Raises psycopg.Error when the database does not answer."""
        return await asyncio.to_thread(self._newest)

    async def of_request(self, request_id: str) -> dict[int, dict[str, Any]]:
        """Those of a request, by their numbers. Raises psycopg.Error when the database does not answer."""
        return await asyncio.to_thread(self._of_request, request_id)

    async def replay(self, number: int) -> dict[str, Any]:
        """Send a dead letter's event to the broker again, as it was. What that does is in `replay`.

        Raises NotReplayed.
        """
        try:
            letter, at = await asyncio.to_thread(self._one, number)
        except psycopg.Error:
            raise NotReplayed("The database does not answer.") from None
        if letter is None:
            raise NotReplayed(f"There is no dead letter {number}.")
        headers, body = events.to_http(letter.event())
        try:
            async with self._client.post(self._broker, headers=headers, data=body, timeout=_SECONDS) as answer:
                if answer.status >= 300:
                    raise NotReplayed("The broker did not take it.")
        except (aiohttp.ClientError, TimeoutError):
            raise NotReplayed("The broker does not answer.") from None
        try:
            await asyncio.to_thread(self._note, letter, at)
        except psycopg.Error:
            raise NotReplayed("It was sent again, but that could not be noted: the database does not answer.") from None
        return {"id": letter.id, "event_id": letter.row["event_id"], "published": True, "replay": letter.outlook()}

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(**self._database().parameters())

    def _newest(self) -> list[dict[str, Any]]:
        with self._connect() as connection:
            return [_view(letter) for letter in reversed(letters.find(connection, letters.Filter(limit=SHOWN)))]

    def _of_request(self, request_id: str) -> dict[int, dict[str, Any]]:
        with self._connect() as connection:
            found = letters.find(connection, letters.Filter(request_id=request_id, limit=SHOWN))
        return {letter.id: letter.view() for letter in found}

    def _one(self, number: int) -> tuple[letters.DeadLetter | None, datetime]:
        with self._connect() as connection:
            found = letters.find(connection, letters.Filter(ids=[number]))
            return (found[0] if found else None), letters.now(connection)

    def _note(self, letter: letters.DeadLetter, at: datetime) -> None:
        with self._connect() as connection:
            letters.note_replayed(connection, letter, at)


def _view(letter: letters.DeadLetter) -> dict[str, Any]:
    """`is_open`: it was not replayed since it last came."""
    replayed = letter.row["replayed_at"]
    return {**letter.view(), "is_open": replayed is None or replayed < letter.row["updated_at"]}
