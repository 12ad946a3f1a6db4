"""Who watches the platform: one look at the broker serves everybody, and none is taken while nobody watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from aiohttp import web

from infra.local.page.letters import Letters
from infra.local.page.watch import Eyes, Watch
from infra.local.proxy import session
from infra.local.settings import Database
from tests.parts.net import free_port


class Broker:
    """An HTTP server that tells a change each time that it is asked; `asked` are the queries."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.started_at = "2026-01-01T00:00:00.000Z"

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.asked.append(request.query_string)
        number = len(self.asked)
        one = {"request_id": f"r{number}", "content": "asked"}
        document = {
            "started_at": self.started_at,
            "version": number,
            "stats": {"functions": {}},
            "triggers": {},
            "sources": [],
            "requests": [one],
        }
        return web.json_response(document)


async def told(stream: AsyncGenerator[bytes, None]) -> dict[str, Any]:
    """The next message."""
    line = await anext(stream)
    document: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
    return document


async def watched(broker: Broker, scenario: Any) -> None:
    runner = web.ServerRunner(web.Server(broker.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()

    async def describe() -> dict[str, Any]:
        return {"functions": {}}

    nowhere = Database("127.0.0.1", free_port(), "none", "none", "")
    async with session() as client:
        letters = Letters(lambda: nowhere, "http://127.0.0.1:9/", client)
        await scenario(Watch(Eyes(describe, f"http://127.0.0.1:{runner.addresses[0][1]}/changes", [], {}), letters, client))
    await runner.cleanup()


def test_what_one_look_finds_is_told_to_all_and_nobody_looks_when_they_are_gone() -> None:
    broker = Broker()

    async def scenario(watch: Watch) -> None:
        async with aclosing(watch.follow()) as first, aclosing(watch.follow()) as second:
            assert (await told(first))["reset"] is True
            assert (await told(second))["reset"] is True
            new = (await told(first))["requests"][0]["request_id"]
            while new not in [one["request_id"] for one in (await told(second))["requests"]]:
                pass
        # THEN the task that looks has gone with the last of them
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() if "_keep_looking" in repr(task)]

    asyncio.run(watched(broker, scenario))


def test_a_broker_that_begins_anew_is_asked_for_everything() -> None:
    broker = Broker()

    async def scenario(watch: Watch) -> None:
        async with aclosing(watch.follow()) as stream:
            assert (await told(stream))["since"] == broker.started_at
            broker.started_at = "2026-01-01T00:00:01.000Z"
            assert (await told(stream))["since"] == broker.started_at
        assert broker.asked.count("after=0") == 2

    asyncio.run(watched(broker, scenario))


def test_who_comes_when_the_platform_stops_is_told_nothing_and_who_is_there_hears_the_end() -> None:
    async def scenario(watch: Watch) -> None:
        async with aclosing(watch.follow()) as stream:
            await told(stream)
            watch.close()
            assert [event async for event in stream] == []
        assert [event async for event in watch.follow()] == []

    asyncio.run(watched(Broker(), scenario))
