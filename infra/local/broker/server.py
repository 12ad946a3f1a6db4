"""The broker's HTTP side: the ingress, health, and what the broker knows of its events."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from urllib.parse import unquote

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from infra.local.broker.answers import MAX_EVENT_BYTES
from infra.local.broker.cloudevent import InvalidEvent, parse
from infra.local.broker.dispatch import Dispatcher
from infra.local.broker.glance import glance
from infra.local.broker.log import iso
from infra.local.broker.store import RETRYING, Delivery, StoredEvent, StoreError

_TRACE = "/_broker/trace/"
_STATS = "/_broker/stats"
_CHANGES = "/_broker/changes"
_MOST_CHANGES = 300  # requests in one answer
_GLANCE_BYTES = 64 * 1024  # of an event: what is larger is not read to sum a request up
_COUNTED = ("delivered", "retried", "dead_lettered")
_TITLES = {
    400: "Malformed request",
    404: "Not found",
    405: "Method not allowed",
    413: "Content too large",
    503: "Temporarily unavailable",
}


class Front:
    """Answers the broker's requests. `stopping` makes the ingress refuse with 503."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.stopping = False
        self._dispatcher = dispatcher
        self._started_at = time.time()

    def server(self) -> web.Server:
        """Return aiohttp's plain server: an application's routing and access log cost CPU per event."""
        return web.Server(self._answer, request_factory=_request, access_log=None)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if not path.startswith(("/_broker", "/health")):
            if request.method == "POST":
                return await self._ingress(request)
            return _problem(405, "Events are posted.", {"Allow": "POST"})
        if request.method not in ("GET", "HEAD"):
            return _problem(405, "This is for reading.", {"Allow": "GET, HEAD"})
        if path in ("/health", "/health/liveness", "/health/readiness"):
            return _json({"status": "ok"}) if not self.stopping else _problem(503, "The broker is stopping.")
        if path.startswith(_TRACE):
            return _json(self._trace(path[len(_TRACE) :], data=request.query.get("data") == "true"))
        if path == _STATS:
            return _json(self._stats())
        if path == _CHANGES:
            after = request.query.get("after", "0")
            return _json(self._changes(int(after) if after.isascii() and after.isdigit() else 0))
        return _problem(404, "There is no such path.")

    async def _ingress(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.stopping:
            return _problem(503, "The broker is stopping.", {"Retry-After": "1"})
        if (request.content_length or 0) > MAX_EVENT_BYTES:
            return _problem(413, f"An event may have {MAX_EVENT_BYTES} bytes.")
        try:
            event = parse(request.headers, await request.read())
        except web.HTTPRequestEntityTooLarge:
            return _problem(413, f"An event may have {MAX_EVENT_BYTES} bytes.")
        except InvalidEvent as error:
            return _problem(400, f"Not a valid CloudEvent: {error}.")
        if event is None:
            return _problem(400, "Not a CloudEvent: neither ce-specversion nor application/cloudevents+json.")
        try:
            accepted = await self._dispatcher.accept(event)
        except StoreError:
            return _problem(503, "The event could not be stored.", {"Retry-After": "1"})
        if not accepted:
            return _problem(400, "The event's knativebrokerttl is used up.")
        return web.Response(status=202)

    def _trace(self, request_id: str, *, data: bool) -> dict[str, object]:
        found = self._dispatcher.trace(request_id, MAX_EVENT_BYTES if data else 0)
        return {
            "request_id": request_id,
            "events": [_event(*one) | (_content(*one) if data else {}) for one in found],
        }

    def _changes(self, after: int) -> dict[str, object]:
        """What happened since the version `after` of the broker that started at `started_at`: counts, and requests."""
        changes = self._dispatcher.changes
        requests = []
        for request_id in changes.after(after, _MOST_CHANGES):
            events = list(self._dispatcher.trace(request_id, _GLANCE_BYTES))
            if events:  # else they were pruned
                requests.append(glance(request_id, events))
        return {
            "started_at": iso(self._started_at),
            "version": changes.version,
            "stats": self._stats(),
            "triggers": self._triggers(),
            "sources": [[*one, number] for one, number in self._dispatcher.sources.items()],
            "requests": requests,
        }

    def _triggers(self) -> dict[str, dict[str, int]]:
        now = [(delivery.trigger, delivery.state) for delivery in self._dispatcher.open_deliveries()]
        open_now = Counter(name for name, _ in now)
        retrying = Counter(name for name, state in now if state == RETRYING)
        return {
            name: {**{each: counts[each] for each in _COUNTED}, "waiting": open_now[name], "retrying": retrying[name]}
            for name, counts in self._dispatcher.counts_by_trigger.items()
        }

    def _stats(self) -> dict[str, object]:
        waiting = Counter(delivery.function for delivery in self._dispatcher.open_deliveries())
        counts = self._dispatcher.counts
        return {
            **{name: counts[name] for name in ("accepted", "replies", *_COUNTED)},
            "waiting": waiting.total(),
            "functions": {
                function: {**{name: by_name[name] for name in _COUNTED}, "waiting": waiting[function]}
                for function, by_name in self._dispatcher.counts_by_function.items()
            },
            **({} if self._dispatcher.disorder is None else {"disorder": dict(self._dispatcher.disorder.counts)}),
        }


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_EVENT_BYTES)


def _event(stored: StoredEvent, deliveries: list[Delivery]) -> dict[str, object]:
    event = stored.event
    return {
        "id": event.get("id"),
        "source": event.get("source"),
        "type": event.get("type"),
        "received_at": iso(stored.received_at),
        "from": stored.origin,
        "deliveries": [
            {
                "trigger": each.trigger,
                "function": each.function,
                "state": each.state,
                "attempts": each.attempts,
                "first_attempt_at": None if each.first_attempt_at is None else iso(each.first_attempt_at),
                "finished_at": None if each.finished_at is None else iso(each.finished_at),
                "duration_ms": each.duration_ms,
                "status": each.status,
            }
            for each in deliveries
        ],
    }


def _content(stored: StoredEvent, deliveries: list[Delivery]) -> dict[str, object]:
    """What is in the event, and why its deliveries were given up."""
    event = stored.event
    names = ["datacontenttype" if name == "content-type" else name.removeprefix("ce-") for name in event.headers]
    content: dict[str, object] = {
        "attributes": {name: event.get(name) for name in names},
        "errors": {each.trigger: _decoded(each.errors) for each in deliveries if each.errors is not None},
    }
    try:
        content["data"] = json.loads(event.data) if event.data else None
    except ValueError:
        content["data_base64"] = base64.b64encode(event.data).decode()
    return content


def _decoded(errors: dict[str, str]) -> dict[str, object]:
    body = base64.b64decode(errors.get("ce-knativeerrordata", "") + "==")  # it is cut at its 1024th character
    code, destination = errors["ce-knativeerrorcode"], unquote(errors["ce-knativeerrordest"])
    return {"code": code, "destination": destination, "answer": body.decode(errors="replace")}


def _json(value: dict[str, object]) -> web.Response:
    return web.Response(body=json.dumps(value).encode(), content_type="application/json")


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    """Return an RFC 9457 problem."""
    problem = {"type": "about:blank", "title": _TITLES[status], "status": status, "detail": detail}
    body = json.dumps(problem).encode()
    return web.Response(status=status, body=body, content_type="application/problem+json", headers=headers)
