"""What each function is sent when it is measured alone, and what its answer must carry. Every request is a new one."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.post import Call
from common.database import load_queries
from common.ingest import request_id_for
from tests.parts.events import PREFIX
from tests.parts.postgres import Postgres
from tests.parts.samples import BODIES, TOOL_KEY, request_data, slack_headers

SLACK_SECRET = "bench-signing-secret"  # noqa: S105  # pragma: allowlist secret
TOOL = BODIES["tool"]["tool_id"]
TOOL_KEYS = json.dumps({TOOL: [f"sha256:{hashlib.sha256(TOOL_KEY.encode()).hexdigest()}"]})
_AGENT_SAID = {"agent_id": "routing-agent", "content": "the answer", "metadata": {}, "status": "completed"}
_COUNTS = {"model_calls": 1, "input_tokens": 1, "output_tokens": 1}


def of(function: str, postgres: Postgres, count: int) -> list[Call]:
    """That many calls of a function, which a function that has answered nothing yet can answer."""
    if function.startswith("ingest-"):
        return [_ask(function.removeprefix("ingest-")) for _ in range(count)]
    made = {
        "session-upsert": lambda: [_created(request_data(conversation_key=str(n % 500))) for n in range(count)],
        "agent-invoke": lambda: list(recorded(postgres, count)),
        "response-dispatch": lambda: list(_answered(postgres, count, "tool")),
        "request-status": lambda: [_read(call.id) for call in _answered(postgres, count, "web")],
        "dead-letter": lambda: [_dead(request_data(conversation_key=str(n % 500))) for n in range(count)],
        "session-sweep": lambda: [_event("dev.knative.sources.ping", str(uuid.uuid4()), {}, 204)] * count,
    }
    return made[function]()


def _ask(integration: str) -> Call:
    key = str(uuid.uuid4())
    body = json.dumps(BODIES[integration])
    caller = TOOL if integration == "tool" else BODIES[integration]["user_id"]
    headers = {"content-type": "application/json", "idempotency-key": key}
    if integration == "slack":
        headers |= slack_headers(body.encode(), secret=SLACK_SECRET)
    elif integration == "tool":
        headers["x-api-key"] = TOOL_KEY
    return Call(body, headers, id=request_id_for(integration, caller, key))


def _event(kind: str, event_id: str, data: Any, status: int, expected: str = "", **extensions: str) -> Call:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-type": kind,
        "ce-source": "/self-service-agent/benchmarks",
        "content-type": "application/json",
        **{f"ce-{name}": value for name, value in extensions.items()},
    }
    return Call(json.dumps(data), headers, status=status, id=expected)


def _created(data: dict[str, Any]) -> Call:
    key = data["request_id"]
    return _event(PREFIX + "request.created", key, data, 200, key, requestid=key)


def _dead(data: dict[str, Any]) -> Call:
    """A request that no function took, for good: it is kept, ended, and its person told."""
    key = data["request_id"]
    why = {"knativeerrordest": "http://session-upsert/", "knativeerrorcode": "400", "knativeerrordata": ""}
    return _event(PREFIX + "request.created", key, data, 204, requestid=key, **why)


def recorded(postgres: Postgres, count: int, integration: str = "web") -> Iterator[Call]:
    """Session events of that many new sessions, the first request of each recorded."""
    statement = load_queries()["record_request"]
    with postgres.connect() as connection:
        for _ in range(count):
            key = str(uuid.uuid4())
            data = request_data(request_id=key, conversation_key=key, integration_type=integration, request_type="message")
            data |= {"integration_key": TOOL if integration == "tool" else ""}
            row = connection.execute(statement, {"request": json.dumps(data), "event_id": key}).fetchone()
            assert row is not None
            session = {"session": {"session_id": row[0]["session_id"], "opened": True}, "request": data}
            yield _event(PREFIX + "session.created", f"{key}.session", session, 200, key, requestid=key)


def _answered(postgres: Postgres, count: int, integration: str) -> Iterator[Call]:
    """Events of that many finished requests."""
    queries, result = load_queries(), json.dumps({**_AGENT_SAID, **_COUNTS})
    with postgres.connect() as connection:
        for call in recorded(postgres, count, integration):
            turn = {"request_id": call.id, "owner": "bench"}
            connection.execute(queries["claim_turn"], {**turn, "lease": 15.0, "history": 0})
            row = connection.execute(queries["finish_turn"], {**turn, "fence": 1, "result": result}).fetchone()
            assert row is not None
            answer, key = row[0]["answer"], f"{call.id}.response"
            ready = _event(PREFIX + "agent.response-ready", key, answer, 204, requestid=call.id)
            yield replace(ready, id=call.id)


def _read(request_id: str) -> Call:
    return Call(method="GET", path=f"/api/v1/requests/{request_id}", status=200, id=request_id)
