"""Finished requests and their events."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.parts.events import PREFIX, event
from tests.parts.functions import Event
from tests.parts.postgres import Postgres

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes ok!").decode()  # pragma: allowlist secret


def finished(postgres: Postgres, integration: str, *, content: str | None = "the answer", **request: Any) -> Event:
    """A finished request in the database, and its response-ready event (which says something else)."""
    normalized = {
        "conversation_key": "c1",
        "accepted_at": "2026-01-01T00:00:00Z",
        "channel_id": "C1",
        "thread_id": "1700000000.000001",
        "context": {"tool_context": {"ticket_id": "INC1"}},
        **request,
    }
    status = "completed" if content is not None else "failed"
    postgres.query(
        "INSERT INTO request_logs (request_id, integration_type, integration_key, user_id, request_content,"
        " normalized_request, status, agent_id, response_content, error_code, error_message, cloudevent_id,"
        " accepted_at, completed_at)"
        " VALUES ('r1', %s, %s, 'ann', 'q', %s, %s, 'routing-agent', %s, %s, %s, 'r1', now(), now())",
        integration,
        "snow" if integration == "tool" else "",
        json.dumps(normalized),
        status,
        content,
        None if content is not None else "model_not_found",
        None if content is not None else "The assistant is not set up for this.",
    )
    return response_ready("r1", integration, status)


def response_ready(request_id: str, integration: str, status: str = "completed") -> Event:
    data = {
        "request_id": request_id,
        "session_id": None,
        "integration_type": integration,
        "user_id": "ann",
        "status": status,
        "agent_id": "routing-agent",
        "content": "what the event says",
        "error": None,
        "completed_at": "2026-01-01T00:00:01Z",
    }
    return event(PREFIX + "agent.response-ready", f"{request_id}.response", data, requestid=request_id)


def hook_at(postgres: Postgres, url: str) -> None:
    """The tool's webhook is somewhere else."""
    postgres.query(
        "UPDATE integration_configs SET delivery = %s WHERE integration_key = 'snow'",
        json.dumps({"webhook_url": url, "secret_ref": "snow"}),  # pragma: allowlist secret
    )


def state(postgres: Postgres) -> tuple[Any, ...]:
    return postgres.query("SELECT delivery_attempts, delivered_at IS NOT NULL, delivery_reference FROM request_logs")[0]
