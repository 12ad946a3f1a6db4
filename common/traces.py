"""A request's way through the functions, with times, from its own row (the statement get_trace).

request-status gives it to the request's owner; `agent trace --database` and the local platform's page show it to operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Step = dict[str, Any]


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


class _Steps:
    """Makes steps of a request that was accepted at `accepted`."""

    def __init__(self, accepted: str) -> None:
        self._accepted = datetime.fromisoformat(accepted)

    def __call__(self, function: str, what: str, at: str | None, **detail: Any) -> Step:
        after = None if at is None else round((datetime.fromisoformat(at) - self._accepted).total_seconds() * 1000)
        return {
            "function": function,
            "step": what,
            "at": None if at is None else _utc(at),
            "after_ms": after,
            "detail": detail,
        }


def _steps(row: Mapping[str, Any]) -> list[Step]:
    step = _Steps(row["accepted_at"])
    return [
        step(f"ingest-{row['integration_type']}", "accepted", row["accepted_at"]),
        step("session-upsert", "recorded", row["recorded_at"], session="opened" if row["opened_session"] else "continued"),
        *(_turn(step, row) if row["session_id"] is not None else ()),
        *_delivery(step, row),
    ]


def _turn(step: _Steps, row: Mapping[str, Any]) -> list[Step]:
    """What agent-invoke did, and session-sweep for it."""
    steps = []
    before = row["turn_before"]
    if before is not None and (before["completed_at"] is None or _later(before["completed_at"], row["recorded_at"])):
        steps.append(step("agent-invoke", "turn came", before["completed_at"]))
    started = step("agent-invoke", "started", row["started_at"], attempts=row["attempts"])
    if row["resumes"] > 0:
        resumed = step("session-sweep", "sent on", row["resumed_at"], times=row["resumes"])
        is_later = row["started_at"] is not None and _later(row["resumed_at"], row["started_at"])
        steps += [started, resumed] if is_later else [resumed, started]
    else:
        steps.append(started)
    if row["first_words_at"] is not None:
        steps.append(step("agent-invoke", "first words", row["first_words_at"]))
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
    return steps


def _delivery(step: _Steps, row: Mapping[str, Any]) -> list[Step]:
    """What response-dispatch did, and session-sweep for it. Answers that are read, and not sent, have no such step."""
    steps = []
    if row["redeliveries"] > 0:
        steps.append(step("session-sweep", "sent again", row["redelivered_at"], times=row["redeliveries"]))
    if row["delivery_attempts"] > 0 or row["undeliverable_at"] is not None:
        is_given_up = row["undeliverable_at"] is not None and row["delivered_at"] is None
        steps.append(
            step(
                "response-dispatch",
                "given up" if is_given_up else "delivered",
                row["undeliverable_at"] if is_given_up else row["delivered_at"],
                attempts=row["delivery_attempts"],
                error=row["delivery_error"],
            )
        )
    return steps


def _later(one: str, other: str) -> bool:
    return datetime.fromisoformat(one) > datetime.fromisoformat(other)


def _utc(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).isoformat().replace("+00:00", "Z")
