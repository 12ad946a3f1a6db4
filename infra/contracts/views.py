"""What is sent and answered besides the bodies' models: request-status' views, the stream, Slack's own envelopes.

The views are plain rows in the code (functions/request-status/views.py); tests/security/test_contracts.py holds real answers
against these schemas, in which nothing may be missing and nothing more.
"""

from __future__ import annotations

from typing import Any

from infra.contracts.schemas import INTEGRATION


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(properties: dict[str, Any], *, optional: tuple[str, ...] = (), closed: bool = True) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required} | (
        {"additionalProperties": False} if closed else {}
    )


_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_STATUS = {"type": "string", "enum": ["queued", "processing", "completed", "failed"]}
_FAILURE = {"$ref": "#/components/schemas/Failure"}

SCHEMAS: dict[str, Any] = {
    "Accepted": _object(
        {"request_id": _TEXT, "status": {"const": "accepted"}, "status_url": {"type": "string", "format": "uri-reference"}}
    ),
    "Failure": {
        "description": "Why a request has no answer: a code for programs, a sentence for people.",
        **_object({"code": _TEXT, "message": _TEXT}),
    },
    "RequestState": _object(
        {
            "request_id": _TEXT,
            "session_id": _or_null({"type": "string", "format": "uuid"}),
            "integration_type": INTEGRATION,
            "status": _STATUS,
            "agent_id": _or_null(_TEXT),
            "created_at": _TIME,
            "completed_at": _or_null(_TIME),
            "processing_time_ms": _or_null({"type": "integer"}),
            "response": _or_null(_object({"content": _TEXT}, closed=False)),
            "error": _or_null(_FAILURE),
        }
    ),
    "Trace": _object(
        {
            "request_id": _TEXT,
            "session_id": _or_null({"type": "string", "format": "uuid"}),
            "integration_type": INTEGRATION,
            "status": _STATUS,
            "trace_id": _or_null(_TEXT),
            "steps": {
                "description": "In the chain's order; a step that is still to come has no time.",
                "type": "array",
                "items": _object(
                    {
                        "function": _TEXT,
                        "step": _TEXT,
                        "at": _or_null(_TIME),
                        "after_ms": _or_null({"type": "integer"}),
                        "detail": {"type": "object"},
                    }
                ),
            },
            "dead_letters": {
                "description": "Its events that a Trigger gave up on.",
                "type": "array",
                "items": _object(
                    {
                        "type": _TEXT,
                        "code": _or_null(_TEXT),
                        "seen": {"type": "integer"},
                        "resends": {"type": "integer"},
                        "at": _TIME,
                    }
                ),
            },
        }
    ),
    "Message": _object(
        {
            "request_id": _TEXT,
            "status": _STATUS,
            "role": {"type": "string", "enum": ["user", "assistant"]},
            "content": _or_null(_TEXT),
            "agent_id": _or_null(_TEXT),
            "error": _or_null(_FAILURE),
            "created_at": _TIME,
        },
        optional=("agent_id", "error"),
    ),
    "Session": _object(
        {
            "session_id": {"type": "string", "format": "uuid"},
            "integration_type": INTEGRATION,
            "user_id": _TEXT,
            "status": {"type": "string", "enum": ["active", "expired", "archived"]},
            "current_agent_id": _or_null(_TEXT),
            "total_requests": {"type": "integer"},
            "created_at": _TIME,
            "updated_at": _TIME,
            "expires_at": _TIME,
            "messages": {
                "description": "The newest, oldest first.",
                "type": "array",
                "items": {"$ref": "#/components/schemas/Message"},
            },
        }
    ),
}

PARAMETERS: dict[str, Any] = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same key of the same caller is the same request: one id, one answer.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    },
    "traceparent": {
        "name": "traceparent",
        "in": "header",
        "description": "W3C Trace Context; an invalid one is replaced.",
        "schema": _TEXT,
    },
    "requestId": {"name": "request_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
    "sessionId": {"name": "session_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
    "wait": {
        "name": "wait",
        "in": "query",
        "description": "Seconds to wait for the request to be recorded and finished.",
        "schema": {"type": "number", "minimum": 0, "maximum": 60, "default": 0},
    },
    "lastEventId": {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The id of the last event that was received: the stream goes on after it.",
        "schema": _TEXT,
    },
}

ACCEPTED: dict[str, Any] = {
    "description": "The broker has stored it.",
    "headers": {"Location": {"required": True, "description": "Where to read it.", "schema": {"type": "string"}}},
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Accepted"}}},
}

STREAM: dict[str, Any] = {
    "description": (
        "Server-sent events: `status` (data: RequestState), `chunk` (data: {content}), a piece of the answer, and `reset`,"
        " after which the pieces before it no longer count. It ends when the request is finished."
    ),
    "content": {"text/event-stream": {"schema": _TEXT}},
}

SLACK_JSON: list[dict[str, Any]] = [
    _object({"type": {"const": "url_verification"}, "challenge": _TEXT}, closed=False),
    _object({"type": {"const": "event_callback"}, "event": {"type": "object"}}, closed=False),
    _object({"type": {"const": "app_rate_limited"}}, closed=False),
]
SLACK_FORM: dict[str, Any] = {
    "description": "A slash command (command, user_id, team_id …), or payload: a pressed button, as JSON.",
    "type": "object",
    "additionalProperties": _TEXT,
}
SLACK_HEARD: dict[str, Any] = {
    "description": "To Slack itself: heard. Empty, the challenge, or a line that only who typed the command sees.",
    "content": {
        "application/json": {"schema": {"type": "object"}},
        "text/html": {"schema": {"type": "string", "maxLength": 0}},
    },
}
