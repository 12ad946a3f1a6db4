"""Rows as a reader sees them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Request, Response
from pydantic_core import to_json

from common.errors import FieldError, Invalid

MAX_WAIT_SECONDS = 60.0


def wait_seconds(request: Request) -> float:
    """The `wait` parameter, 0 to 60 seconds (default 0).

    Raises Invalid for anything else.
    """
    raw = request.args.get("wait", "0")
    try:
        seconds = float(raw)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        error = FieldError("query.wait", "must be a number from 0 to 60")
        raise Invalid("The wait is not possible.", (error,))
    return seconds


def as_json(view: Mapping[str, Any]) -> Response:
    """A 200 that no cache keeps."""
    return Response(to_json(view), 200, {"Cache-Control": "no-store"}, content_type="application/json")


def request_view(row: Mapping[str, Any]) -> dict[str, Any]:
    """A request: its state, and its answer or why there is none."""
    answered = row["status"] == "completed"
    return {
        "request_id": row["request_id"],
        "session_id": row["session_id"],
        "integration_type": row["integration_type"],
        "status": row["status"],
        "agent_id": row["agent_id"],
        "created_at": _time(row["created_at"]),
        "completed_at": _time(row["completed_at"]),
        "processing_time_ms": row["processing_time_ms"],
        "response": {"content": row["content"], **row["metadata"]} if answered else None,
        "error": _error(row),
    }


def session_view(row: Mapping[str, Any]) -> dict[str, Any]:
    """A session: who, with which agent, and what was said."""
    return {
        "session_id": row["session_id"],
        "integration_type": row["integration_type"],
        "user_id": row["user_id"],
        "status": row["status"],
        "current_agent_id": row["current_agent_id"],
        "total_requests": row["total_requests"],
        "created_at": _time(row["created_at"]),
        "updated_at": _time(row["updated_at"]),
        "expires_at": _time(row["expires_at"]),
        "messages": [message for turn in row["turns"] for message in _messages(turn)],
    }


def _messages(turn: Mapping[str, Any]) -> list[dict[str, Any]]:
    common = {"request_id": turn["request_id"], "status": turn["status"]}
    messages = [
        {
            **common,
            "role": "user",
            "content": turn["request_content"],
            "created_at": _time(turn["accepted_at"]),
        }
    ]
    if turn["completed_at"] is not None:
        messages.append(
            {
                **common,
                "role": "assistant",
                "content": turn["response_content"],
                "agent_id": turn["agent_id"],
                "error": _error(turn),
                "created_at": _time(turn["completed_at"]),
            }
        )
    return messages


def _error(row: Mapping[str, Any]) -> dict[str, str] | None:
    if row["error_code"] is None:
        return None
    return {"code": row["error_code"], "message": row["error_message"]}


def _time(text: str | None) -> str | None:
    if text is None:
        return None
    return datetime.fromisoformat(text).astimezone(UTC).isoformat().replace("+00:00", "Z")
