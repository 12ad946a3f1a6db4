"""A request's way through the functions, with times, from its own row. Operators see more in logs and at the broker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def trace_view(row: Mapping[str, Any]) -> dict[str, Any]:
    """Each step in the chain's order: which function, what it did, when, and how long after the request was accepted.

    A step that is still to come has `at` and `after_ms` null. Ingest's clock is the pod's, all others the database's: they
    may differ by a little.
    """
    trace_id = (row["traceparent"] or "")[3:35] or None
    return {
        "request_id": row["request_id"],
        "session_id": row["session_id"],
        "integration_type": row["integration_type"],
        "status": row["status"],
        "trace_id": trace_id,
        "steps": _steps(row),
        "dead_letters": [{**letter, "at": _utc(letter["at"])} for letter in row["dead_letters"]],
    }


def _steps(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    accepted = datetime.fromisoformat(row["accepted_at"])

    def step(function: str, what: str, at: str | None, **detail: Any) -> dict[str, Any]:
        after = None if at is None else round((datetime.fromisoformat(at) - accepted).total_seconds() * 1000)
        return {
            "function": function,
            "step": what,
            "at": None if at is None else _utc(at),
            "after_ms": after,
            "detail": detail,
        }

    steps = [
        step(f"ingest-{row['integration_type']}", "accepted", row["accepted_at"]),
        step("session-upsert", "recorded", row["recorded_at"], session="opened" if row["opened_session"] else "continued"),
    ]
    if row["session_id"] is not None:
        steps.append(step("agent-invoke", "started", row["started_at"], attempts=row["attempts"]))
        usage = row["usage"] or {}
        steps.append(
            step(
                "agent-invoke",
                "failed" if row["status"] == "failed" else "answered",
                row["completed_at"],
                agent=row["agent_id"],
                model_calls=row["model_calls"],
                input_tokens=usage.get("input_tokens"),
                output_tokens=usage.get("output_tokens"),
                error=row["error_code"],
            )
        )
    if row["delivery_attempts"] > 0:
        steps.append(
            step(
                "response-dispatch",
                "delivered",
                row["delivered_at"],
                attempts=row["delivery_attempts"],
                error=row["delivery_error"],
            )
        )
    return steps


def _utc(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).isoformat().replace("+00:00", "Z")
