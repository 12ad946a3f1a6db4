"""The functions whose traces are looked at, what is around them, and the trace of one test."""

from __future__ import annotations

import base64
import json
import uuid

from tests.parts.collector import Collector, Span, traceparent
from tests.parts.events import request_created
from tests.parts.functions import Event, Function
from tests.parts.llama import DemoModel
from tests.parts.net import Answer, call
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, credentials

NAMES = ("ingest-web", "session-upsert", "agent-invoke", "response-dispatch", "dead-letter", "session-sweep")
SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes ok!").decode()  # pragma: allowlist secret
WEB = "/api/v1/requests/web"
ONE = "1" * 16  # a caller's span


class World:
    """The functions, what is around them, and the trace of one test."""

    def __init__(
        self, functions: dict[str, Function], collector: Collector, outside: Recorder, postgres: Postgres, model: DemoModel
    ) -> None:
        self.functions = functions
        self.collector = collector
        self.outside = outside
        self.postgres = postgres
        self.model = model
        self.trace = uuid.uuid4().hex

    def ask(self, content: str = "hello", parent: str | None = None) -> Answer:
        """POST a request to ingest-web, in this test's trace unless `parent` says otherwise."""
        given = {"traceparent": traceparent(self.trace, ONE) if parent is None else parent}
        return ask(self.functions["ingest-web"], content, **given)

    def know_webhook(self, url: str) -> None:
        """Configure the tool snow with this webhook, of what is outside unless it is a whole URL."""
        delivery = {"webhook_url": url if ":" in url else self.outside.url + url}
        statement = "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', %s, %s)"
        self.postgres.query(statement, "snow", json.dumps(delivery))

    def wait(self, *names: str) -> list[Span]:
        """Wait until the trace has a span of each of these names; all of it."""
        return self.collector.wait(self.trace, lambda spans: {span.name for span in spans} >= set(names))

    def created(self, request_id: str = "r1", **changes: object) -> Event:
        """A request.created event in this test's trace."""
        return request_created(request_id=request_id, traceparent=traceparent(self.trace, ONE), **changes)

    def recorded(self, request_id: str = "r1", **changes: object) -> Event:
        """The session event of a recorded request."""
        return Event.of(self.functions["session-upsert"].post_event(self.created(request_id, **changes)))


def ask(function: Function, content: str = "hello", **headers: str) -> Answer:
    raw = json.dumps({**BODIES["web"], "content": content}).encode()
    given = {"content-type": "application/json", **credentials("web", raw, BODIES["web"]["user_id"]), **headers}
    return call("POST", function.url + WEB, body=raw, headers=given)


def only(spans: list[Span], name: str) -> Span:
    [found] = [span for span in spans if span.name == name]
    return found
