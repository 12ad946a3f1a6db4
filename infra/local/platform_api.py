"""What the front door answers itself: the platform's health and description, its page, the stand-ins below /_platform."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web
from aiohttp.web_request import BaseRequest
from yarl import URL

from infra.local import guard
from infra.local.answers import BODY_LIMIT, BodyTooLarge, json_answer, problem, read_body, too_large
from infra.local.deliveries import Deliveries
from infra.local.page.pages import Pages
from infra.local.slack import Slack

_JSON_ARGUMENTS = ("metadata", "blocks", "attachments")  # arguments that a form carries as JSON


@dataclass(frozen=True, slots=True)
class View:
    """What the platform lets the door see.

    `describe` gives the document of GET /_platform, `not_ready` the names of what is not ready, `trace_url` the broker's
    address of one request's trace.
    """

    describe: Callable[[], Awaitable[dict[str, Any]]]
    not_ready: Callable[[], Awaitable[list[str]]]
    trace_url: Callable[[str], str]


class PlatformApi:
    """Answers GET /health and everything below /_platform. The stand-ins are there when `deliveries` is given.

    So is the page with `pages`, for this machine alone. `names` are the host names that the door has beside `localhost`.
    """

    def __init__(
        self,
        view: View,
        client: aiohttp.ClientSession,
        deliveries: Deliveries | None,
        pages: Pages | None = None,
        names: Collection[str] = (),
    ) -> None:
        self._pages = pages
        self._names = names
        self._view = view
        self._client = client
        self._deliveries = deliveries
        self._slack = Slack(deliveries) if deliveries is not None else None
        self._routes: list[tuple[frozenset[str], re.Pattern[str], Callable[..., Awaitable[web.StreamResponse]]]] = [
            (_GET, re.compile(r"/health"), self._health),
            (_GET, re.compile(r"/_platform/?"), self._describe),
            (_GET, re.compile(r"/_platform/trace/([^/]+)"), self._trace),
            (_GET, re.compile(r"/_platform/deliveries"), self._delivered),
            (_GET | _POST, re.compile(r"/_platform/slack/api/([\w.]+)"), self._call_slack),
            (_POST, re.compile(r"/_platform/webhook/([^/]+)"), self._take_webhook),
        ]
        if pages is not None:
            self._routes += [
                (_GET, re.compile(r"/_platform/page/([^/]+)"), _private(pages.asset)),
                (_GET, re.compile(r"/_platform/feed"), _private(pages.feed)),
                (_GET, re.compile(r"/_platform/requests/([^/]+)"), _private(pages.way)),
                (_GET, re.compile(r"/_platform/dead-letters"), _private(pages.dead_letters)),
                (_POST, re.compile(r"/_platform/dead-letters/(\d{1,18})/replay"), _private(pages.replay)),
            ]

    async def __call__(self, request: BaseRequest, path: str) -> web.StreamResponse:
        """Answer a request for `path`."""
        if path.startswith("/_platform"):
            if not guard.names_this_machine(request.headers.get("Host"), self._names):
                return problem(403, "Not allowed", "The Host header names neither an address nor this machine.")
            if request.method not in _GET and guard.is_foreign(request):
                return problem(403, "Not allowed", "A page of another site asked for this.")
        for methods, pattern, handler in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if request.method not in methods:
                allowed = ", ".join(sorted(methods))
                return problem(405, "Method not allowed", "This path does not take that method.", {"Allow": allowed})
            try:
                return await handler(request, *match.groups())
            except BodyTooLarge:
                return too_large(BODY_LIMIT)
        return problem(404, "Not found", "There is nothing at this path.")

    async def _health(self, _request: BaseRequest) -> web.Response:
        waiting = await self._view.not_ready()
        if not waiting:
            return json_answer({"status": "ok"})
        detail = f"Not ready: {', '.join(waiting)}."
        return problem(503, "Temporarily unavailable", detail, {"Retry-After": "1"})

    async def _describe(self, request: BaseRequest) -> web.Response:
        is_page = self._pages is not None and guard.is_from_here(request)
        if self._pages is not None and is_page and guard.wants_html(request.headers.get("Accept")):
            return await self._pages.index(request)
        answer = json_answer(await self._view.describe())
        answer.headers["Vary"] = "Accept"
        return answer

    async def _trace(self, _request: BaseRequest, request_id: str) -> web.Response:
        try:
            async with self._client.get(URL(self._view.trace_url(request_id), encoded=True)) as response:
                body = await response.read()
                return web.Response(body=body, status=response.status, content_type=response.content_type)
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return problem(503, "Temporarily unavailable", "The broker does not answer now.", {"Retry-After": "1"})

    async def _delivered(self, request: BaseRequest) -> web.Response:
        entries = self._deliveries.entries if self._deliveries is not None else []
        wanted = request.rel_url.query.get("request_id")
        return json_answer([one for one in entries if wanted is None or one["request_id"] == wanted])

    async def _call_slack(self, request: BaseRequest, method: str) -> web.Response:
        if self._slack is None:
            return _not_standing_in()
        body = await read_body(request) or b""
        try:
            arguments = _slack_arguments(request, body)
        except ValueError:
            return json_answer({"ok": False, "error": "invalid_json"})
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        token = bearer if scheme == "Bearer" else arguments.pop("token", None)
        return json_answer(self._slack.call(method, token, arguments, request.headers))

    async def _take_webhook(self, request: BaseRequest, _tool: str) -> web.Response:
        if self._deliveries is None:
            return _not_standing_in()
        raw = await read_body(request) or b""
        try:
            body = json.loads(raw)
        except ValueError:
            return problem(400, "Malformed request", "The body is not JSON.")
        self._deliveries.add("webhook", _request_id(body), request.headers, body)
        return json_answer({"ok": True})


Handler = Callable[..., Awaitable[web.StreamResponse]]


def _private(handler: Handler) -> Handler:
    """What shows people's words, or acts, is for this machine, whomever HOST lets in."""

    async def guarded(request: BaseRequest, *parts: str) -> web.StreamResponse:
        if not guard.is_from_here(request):
            return problem(403, "Not allowed", "The page is for the machine that the platform runs on.")
        return await handler(request, *parts)

    return guarded


_GET = frozenset({"GET"})
_POST = frozenset({"POST"})


def _not_standing_in() -> web.Response:
    return problem(404, "Not found", "SLACK_BOT_TOKEN is set: nothing is stood in for.")


def _slack_arguments(request: BaseRequest, body: bytes) -> dict[str, Any]:
    """Give the method's arguments from the query, a form or JSON. Raises ValueError when they cannot be read."""
    arguments: dict[str, Any] = dict(request.rel_url.query)
    if request.content_type == "application/json":
        document = json.loads(body or b"{}")
        if not isinstance(document, dict):
            raise ValueError("not an object")
        return arguments | document
    arguments |= parse_qsl(body.decode(), keep_blank_values=True)
    for name in _JSON_ARGUMENTS:
        if isinstance(arguments.get(name), str):
            arguments[name] = json.loads(arguments[name])
    return arguments


def _request_id(body: Any) -> str | None:
    if not isinstance(body, dict):
        return None
    data = body.get("data")
    found = body.get("request_id") or (data.get("request_id") if isinstance(data, dict) else None)
    return str(found) if found is not None else None
