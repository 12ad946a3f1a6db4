"""One request's way through the functions, from hand to hand: without a broker nothing happens twice, or at another time."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import free_port, process
from benchmarks.statement_log import StatementLog
from tests.parts.events import PREFIX
from tests.parts.functions import Event, Function
from tests.parts.net import call
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, credentials, settings_of_ingest
from tests.parts.slack import Slack, mention

INTEGRATIONS = ("web", "cli", "slack", "tool")
WAYS = (*INTEGRATIONS, "slack-mention")  # what Slack itself sends: its person sees the "thinking" sign first
_WEBHOOK_SECRET = "whsec_YSBzZWNyZXQgb2YgMjQgYnl0ZXMgb2sh"  # pragma: allowlist secret
_SLACK_ANSWER = b'{"ok": true, "ts": "1700000000.000100", "channel": "C123456789"}'  # pragma: allowlist secret


@dataclass
class Way:
    """What one request cost: its events by type, its statements and log lines by name and by function."""

    events: dict[str, Event] = field(default_factory=dict)
    statements: Counter[str] = field(default_factory=Counter)
    log_lines: Counter[str] = field(default_factory=Counter)


class Chain:
    """Every function that a request passes, each in its own process; an instant agent; a recorder for what is outside."""

    def __init__(self, functions: dict[str, Function], recorder: Recorder, statements: StatementLog) -> None:
        self.functions = functions
        self._recorder = recorder
        self._statements = statements
        self._mentions = 0

    def walk(self, kind: str) -> Way:
        """One request of `kind` (one of WAYS), accepted, recorded, answered, delivered and, where people read, read."""
        way = Way()
        integration = kind.partition("-")[0]
        self._statements.take()
        before = {name: len(function.log()) for name, function in self.functions.items()}
        created = self._mention() if kind == "slack-mention" else self._ask(integration)
        ready = self._next("session-upsert", created)
        if integration == "slack":
            self._last("response-dispatch", ready)
        answered = self._next("agent-invoke", ready)
        self._last("response-dispatch", answered)
        self._read(integration, created.attribute("requestid"))
        for event in (created, ready, answered):
            way.events[event.attribute("type").removeprefix(PREFIX)] = event
        way.statements.update(self._statements.take())
        way.log_lines.update({name: len(function.log()) - before[name] for name, function in self.functions.items()})
        return way

    def _ask(self, integration: str) -> Event:
        body = json.dumps(BODIES[integration]).encode()
        proof = credentials(integration, body, BODIES[integration]["user_id"])
        self._recorder.clear()
        url = f"{self.functions[f'ingest-{integration}'].url}/"
        answer = call("POST", url, body=body, headers={"content-type": "application/json", **proof})
        assert answer.status == 202, answer.body
        return self._published()

    def _mention(self) -> Event:
        self._mentions += 1
        self._recorder.clear()
        ts = f"{1700000000 + self._mentions}.000100"
        answer = Slack(self.functions["ingest-slack"].url + "/").send(mention(ts=ts, event_ts=ts))
        assert answer.status == 200, answer.body
        return self._published()

    def _published(self) -> Event:
        created = self._recorder.wait_for(1)[0]
        # What a broker passes on; the rest was between ingest and it.
        kept = {name: value for name, value in created.headers.items() if name.startswith("ce-") or name == "content-type"}
        self._recorder.status, self._recorder.answer_body = 200, _SLACK_ANSWER
        self._recorder.answer_headers = {"content-type": "application/json"}
        return Event(kept, created.body)

    def _next(self, name: str, event: Event) -> Event:
        return Event.of(self.functions[name].post_event(event))

    def _last(self, name: str, event: Event) -> None:
        answer = self.functions[name].post_event(event)
        assert answer.status == 204, answer.body

    def _read(self, integration: str, request_id: str) -> None:
        if integration in ("web", "cli"):
            proof = credentials(integration, b"", BODIES[integration]["user_id"])
            reader = self.functions["request-status"]
            found = call("GET", f"{reader.url}/api/v1/requests/{request_id}?wait=30", headers=proof)
            assert found.json()["status"] == "completed", found.body


@contextmanager
def chain(directory: Path) -> Iterator[Chain]:
    """Start it, and walk each way once: what the first request of a process does is not counted."""
    with ExitStack() as stack:
        postgres = stack.enter_context(closing(Postgres(directory)))
        recorder = stack.enter_context(closing(Recorder()))
        stack_url = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "benchmarks.instant_stack", stack_url.rpartition(":")[2]]
        stack.enter_context(process(command, f"{stack_url}/v1/health"))
        settings = {**postgres.environment(), **settings_of_ingest(recorder.url), **_settings(recorder, stack_url)}
        names = [f"ingest-{name}" for name in INTEGRATIONS]
        names += ["session-upsert", "agent-invoke", "response-dispatch", "request-status"]
        functions = {name: stack.enter_context(closing(Function(name, settings))) for name in names}
        connection: Any = stack.enter_context(postgres.connect())
        delivery = json.dumps({"webhook_url": recorder.url + "hook", "secret_ref": "snow"})
        connection.execute(
            "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', %s, %s)",
            (BODIES["tool"]["tool_id"], delivery),
        )
        running = Chain(functions, recorder, StatementLog(connection, directory / "logs" / "server.log"))
        for kind in WAYS:
            running.walk(kind)
        yield running


def _settings(recorder: Recorder, stack_url: str) -> dict[str, str]:
    return {
        "LLAMA_STACK_URL": stack_url,
        "STREAMING": "false",  # how many chunks an answer has depends on time
        "SLACK_BOT_TOKEN": "xoxb-test",
        "SLACK_API_URL": recorder.url + "slack/",
        "WEBHOOK_SECRETS": json.dumps({"snow": _WEBHOOK_SECRET}),
        "WEBHOOK_URLS_ALLOWED": recorder.url,
    }


def size(event: Event) -> int:
    """Bytes of an event as it travels: its headers' lines and its body."""
    return sum(len(name) + len(value) + 4 for name, value in event.headers.items()) + len(event.body)
