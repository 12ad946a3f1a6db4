"""The page for people at /_platform: the chain, live, and each request's way. Only for this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import cache
from urllib.parse import unquote

import psycopg
from aiohttp import web
from aiohttp.web_request import BaseRequest
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from infra.cli.page import render
from infra.local import guard
from infra.local.answers import json_answer, problem
from infra.local.page import assets
from infra.local.page.chain import Drawing
from infra.local.page.letters import Letters, NotReplayed
from infra.local.page.watch import Watch
from infra.local.page.way import Ways
from infra.local.topology import Function


class Pages:
    """Answers what the page asks for."""

    def __init__(
        self,
        functions: Sequence[Function],
        drawings: Callable[[], Sequence[Drawing]],
        watch: Watch,
        ways: Ways,
        letters: Letters,
    ) -> None:
        self._functions = functions
        self._drawings = drawings
        self._watch = watch
        self._ways = ways
        self._letters = letters

    def close(self) -> None:
        """End the streams: a page that is open must not hold the platform up."""
        self._watch.close()

    async def index(self, _request: BaseRequest) -> web.Response:
        """The page."""
        template = _templates().get_template("index.html")
        return assets.html(template.render(functions=self._functions, drawings=self._drawings()))

    async def asset(self, request: BaseRequest, name: str) -> web.Response:
        """One of its files."""
        return assets.asset(request, name)

    async def feed(self, request: BaseRequest) -> web.StreamResponse:
        """What happens, as server-sent events."""
        answer = web.StreamResponse(headers={**assets.HEADERS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        answer.content_type = "text/event-stream"
        await answer.prepare(request)
        async with aclosing(self._watch.follow(request.rel_url.query.get("request"))) as events:
            async for event in events:
                await answer.write(event)
        await answer.write_eof()
        return answer

    async def way(self, request: BaseRequest, part: str) -> web.Response:
        """One request's way: a page for browsers, else JSON."""
        request_id = unquote(part)
        is_page = guard.wants_html(request.headers.get("Accept"))
        found = await self._ways.of(request_id)
        if found is None and is_page:
            return assets.html(_templates().get_template("unknown.html").render(request_id=request_id), 404)
        if found is None:
            return problem(404, "Not found", "Nothing is known of such a request.")
        return assets.html(render(found, platform=True)) if is_page else json_answer(found)

    async def dead_letters(self, _request: BaseRequest) -> web.Response:
        """The newest dead letters, as JSON."""
        try:
            return json_answer(await self._letters.newest())
        except psycopg.Error:
            return problem(503, "Temporarily unavailable", "The database does not answer.", {"Retry-After": "1"})

    async def replay(self, request: BaseRequest, number: str) -> web.Response:
        """Send a dead letter's event again, for the page alone."""
        if not guard.is_own_page(request):
            return problem(
                403, "Not allowed", "Only the page itself may ask for this: Sec-Fetch-Site or Origin does not say so."
            )
        try:
            done = await self._letters.replay(int(number))
        except NotReplayed as error:
            return problem(409, "Not replayed", str(error))
        self._watch.letters_changed()
        return json_answer(done)


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(assets.HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
