"""The front door before a real HTTP server: what goes through as it is, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from infra.local.answers import problem
from infra.local.front_door import FrontDoor, Routes, listen, origin_of
from infra.local.proxy import Proxy, session
from infra.local.topology import Function
from tests.parts.net import free_port

INGEST = "/api/v1/requests/web"
READ = "/api/v1/requests"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class World:
    door: str
    client: aiohttp.ClientSession


@asynccontextmanager
async def world(handler: Handler | None) -> AsyncIterator[World]:
    """A door before a function that answers by `handler`; without one nothing listens where the function should be."""
    app = web.Application()
    runner = web.AppRunner(app, handler_cancellation=True)
    port = free_port()
    if handler is not None:
        app.router.add_route("*", "/{path:.*}", handler)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
    functions = [
        Function("ingest-web", "ingest", (INGEST,), 1, frozenset()),
        Function("request-status", "read", (READ,), 1, frozenset()),
    ]

    async def platform(_request: object, _path: str) -> web.StreamResponse:
        return problem(404, "Not found", "no platform here")

    urls = {function.name: f"http://127.0.0.1:{port}" for function in functions}
    async with session() as inner:
        listener = listen("127.0.0.1", 0)
        door = FrontDoor(Routes(functions, urls), Proxy(inner), platform)
        await door.open(listener)
        async with aiohttp.ClientSession() as client:
            yield World(origin_of(listener), client)
        await door.close()
        await runner.cleanup()


async def raw(door: str, request: bytes) -> bytes:
    """Send bytes, give everything that comes back until the door closes the connection."""
    where = urlsplit(door)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def test_request_and_answer_go_through_unchanged_but_for_what_is_about_one_connection() -> None:
    seen: list[tuple[str, bytes, dict[str, str]]] = []

    async def handler(request: web.Request) -> web.Response:
        found = {name.lower(): value for name, value in request.headers.items()}
        seen.append((f"{request.method} {request.raw_path}", await request.read(), found))
        headers = [("X-Answer", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Location", "/there")]
        return web.Response(status=202, reason="Taken", body=b"\x00answer", headers=headers, content_type="text/x")

    async def scenario() -> None:
        async with world(handler) as here:
            answer = await raw(
                here.door,
                b"POST /api/v1/requests/web?a=%2F&b=c+d HTTP/1.1\r\nHost: example.test\r\nIdempotency-Key: k 1\r\n"
                b"X-Slack-Signature: v0=ab\r\nX-Hop: dropped\r\nTE: trailers\r\nConnection: close, X-Hop\r\n"
                b"X-Forwarded-For: 192.0.2.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            )
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == "HTTP/1.1 202 Taken"
        assert {"X-Answer: 1", "Set-Cookie: a=1", "Set-Cookie: b=2", "Location: /there", "Content-Type: text/x"} <= set(
            lines
        )
        assert body == b"\x00answer"

    asyncio.run(scenario())
    ((line, body, found),) = seen
    assert line == "POST /api/v1/requests/web?a=%2F&b=c+d"
    assert body == b"abcde"
    assert found["host"] == "example.test"
    assert found["idempotency-key"] == "k 1"
    assert found["x-slack-signature"] == "v0=ab"
    assert found["x-forwarded-for"] == "192.0.2.1, 127.0.0.1"
    assert found["x-forwarded-proto"] == "http"
    assert found["content-length"] == "5"
    assert not {"x-hop", "te", "user-agent", "accept", "accept-encoding", "content-type"} & set(found)


def test_events_of_a_stream_arrive_while_it_is_open() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()

        async def handler(request: web.Request) -> web.StreamResponse:
            stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await stream.prepare(request)
            await stream.write(b"data: 1\n\n")
            await go_on.wait()
            await stream.write(b"data: 2\n\n")
            return stream

        async with world(handler) as here, here.client.get(here.door + READ + "/one/events") as answer:
            assert answer.content_type == "text/event-stream"
            assert await answer.content.readany() == b"data: 1\n\n"
            go_on.set()  # only now: the first event came through before the second was written
            assert await answer.content.read() == b"data: 2\n\n"

    asyncio.run(scenario())


def test_a_caller_that_goes_away_ends_the_functions_work_for_it() -> None:
    async def scenario() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def handler(_request: web.Request) -> web.Response:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError("never here")

        async with world(handler) as here:
            waiting = asyncio.create_task(here.client.get(here.door + READ + "/one?wait=60"))
            await begun.wait()
            waiting.cancel()
            await asyncio.wait_for(ended.wait(), 10)

    asyncio.run(scenario())


def test_an_answer_that_breaks_off_is_not_passed_on_as_a_whole_one() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        await stream.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return stream

    async def scenario() -> None:
        async with world(handler) as here:
            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
                async with here.client.get(here.door + READ + "/one") as answer:
                    await answer.read()

    asyncio.run(scenario())


def test_a_function_that_is_not_there_is_503_with_retry_after() -> None:
    async def scenario() -> None:
        async with world(None) as here, here.client.post(here.door + INGEST, data=b"{}") as answer:
            document = await answer.json(content_type="application/problem+json")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert set(document) == {"type", "title", "status", "detail"}
            assert "ingest-web" in document["detail"]

    asyncio.run(scenario())


def test_a_body_over_the_doors_limit_is_413_whether_or_not_its_length_is_said() -> None:
    async def handler(_request: web.Request) -> web.Response:
        raise AssertionError("the function must not be asked")

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 50_000

    async def scenario() -> None:
        async with world(handler) as here:
            for body in (b"x" * 2_000_000, parts()):
                async with here.client.post(here.door + INGEST, data=body) as answer:
                    assert answer.status == 413
                    assert answer.content_type == "application/problem+json"

    asyncio.run(scenario())


def test_a_large_answer_an_answer_to_head_and_an_empty_one_keep_their_lengths() -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.query_string == "empty":
            return web.Response(status=204)
        return web.Response(body=b"y" * 1_000_000)

    async def scenario() -> None:
        async with world(handler) as here:
            async with here.client.get(here.door + READ) as answer:
                assert await answer.read() == b"y" * 1_000_000
            async with here.client.head(here.door + READ) as answer:
                assert (answer.headers["Content-Length"], await answer.read()) == ("1000000", b"")
            async with here.client.get(here.door + READ + "?empty") as answer:
                assert (answer.status, await answer.read()) == (204, b"")

    asyncio.run(scenario())


def test_a_caller_that_asks_before_it_sends_is_told_to_go_on() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert "Expect" not in request.headers
        return web.Response(text=(await request.text()).upper())

    async def scenario() -> None:
        async with world(handler) as here:
            where = urlsplit(here.door)
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            writer.write(
                b"POST /api/v1/requests/web HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
                b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
            )
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")
            assert (await reader.read()).endswith(b"\r\n\r\nABC")
            writer.close()

    asyncio.run(scenario())


def test_a_header_that_is_no_text_is_no_fault_of_the_door() -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response()

    async def scenario() -> None:
        async with world(handler) as here:
            answer = await raw(
                here.door, b"GET /api/v1/requests/one HTTP/1.1\r\nHost: x\r\nX-Odd: \xff\xfe\r\nConnection: close\r\n\r\n"
            )
            assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400")), answer

    asyncio.run(scenario())


def test_the_longest_path_of_the_table_wins_and_an_integrations_path_is_exact() -> None:
    functions = [
        Function("status", "read", ("/api/v1/requests",), 1, frozenset()),
        Function("special", "read", ("/api/v1/requests/special",), 1, frozenset()),
        Function("web", "ingest", ("/api/v1/requests/web",), 1, frozenset()),
    ]
    routes = Routes(functions, {one.name: f"http://{one.name}" for one in functions})

    assert routes.find("GET", "/api/v1/requests/special/1") == ("special", "http://special")
    assert routes.find("GET", "/api/v1/requests/specials") == ("status", "http://status")
    assert routes.find("PUT", "/api/v1/requests/web") == ("web", "http://web")
    assert routes.find("GET", "/api/v1/requests/web/1") == ("status", "http://status")
    unknown = routes.find("POST", "/api/v1/requests/none")
    assert isinstance(unknown, web.Response)
    assert unknown.status == 404
