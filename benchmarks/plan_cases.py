"""What the named statements are run with for their plans: parameters by which each goes its longest way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg

from common.database import load_queries

Step = tuple[str, dict[str, Any]]

_PARAMETER = re.compile(r"%\((\w+)\)s")
_SKIPPED = ("ready",)  # looks at no table
_RESULT = {
    "status": "completed",
    "agent_id": "routing-agent",
    "content": "the answer",
    "metadata": {},
    "model_calls": 1,
    "input_tokens": 1,
    "output_tokens": 1,
}
# Parameters that mean the same wherever they stand; the others are of rows that the tables hold.
_CONSTANTS: dict[str, Any] = {
    "attempt": 0,
    "channel": "C1",
    "code": "500",
    "data": "",
    "destination": "http://agent-invoke",
    "error": None,
    "event": "{}",
    "event_id": "plan-event",
    "fence": 1,
    "given_up": False,
    "history": 20,
    "key": "",
    "lease": 15.0,
    "limit": 500,
    "max": 3,
    "message": "It did not work.",
    "model_calls": 1,
    "nothing_there": False,
    "owner": "plan",
    "owners": ["plan"],
    "reason": "gone",
    "reference": "1700000000.000100",
    "resends": 0,
    "result": json.dumps(_RESULT),
    "retention": 30,
    "seq": 0,
    "source": "/self-service-agent/plan",
    "stalled": 600.0,
    "ts": "1700000000.000100",
    "type": "tool",
    "url": "http://127.0.0.1/hook",
}
_OF_ANSWERS = (
    "begin_delivery",
    "begin_slack_delivery",
    "finish_delivery",
    "release_delivery",
    "refuse_delivery",
    "give_up_delivery",
    "get_request",
    "get_trace",
)


def cases(connection: psycopg.Connection[Any]) -> Iterator[tuple[str, list[Step], dict[str, Any]]]:
    """Each named statement: what runs before it in its transaction, and its parameters.

    Raises LookupError for a parameter that is not known here.
    """
    values, answered = _rows(connection)
    _arrange(connection, answered)
    for name, statement in load_queries().items():
        if name in _SKIPPED:
            continue
        known = {**values, "request_id": answered} if name in _OF_ANSWERS else dict(values)
        if name == "fail_request":
            known["request_id"] = "plan-new"  # never recorded: it is, on the way
        wanted = set(_PARAMETER.findall(statement))
        if wanted - set(known):
            raise LookupError(f"benchmarks/plan_cases.py knows no {', '.join(sorted(wanted - set(known)))} for {name}")
        yield name, _before(name, values), {one: known[one] for one in wanted}


def _arrange(connection: psycopg.Connection[Any], answered: str) -> None:
    """Leave something to do for those who deliver and for the sweep."""
    connection.execute("UPDATE request_logs SET delivered_at = NULL WHERE request_id = %s", (answered,))
    connection.execute(
        "UPDATE request_sessions SET check_at = now() - interval '1 minute' WHERE session_id IN"
        " (SELECT session_id FROM request_sessions WHERE status = 'active' ORDER BY created_at LIMIT 500)"
    )


def _before(name: str, values: dict[str, Any]) -> list[Step]:
    claim = ("claim_turn", {"request_id": values["request_id"], "owner": "plan", "lease": 15.0, "history": 20})
    return [claim] if name in ("finish_turn", "renew_leases", "release_turn") else []


def _rows(connection: psycopg.Connection[Any]) -> tuple[dict[str, Any], str]:
    """Parameters of a request that waits for its turn, and the id of one that is answered."""

    def one(statement: LiteralString, *values: Any) -> Any:
        row = connection.execute(statement, values).fetchone()
        assert row is not None, statement
        return row

    waiting, session, request, fence = one(
        "SELECT r.request_id, s.session_id::text, r.normalized_request, s.lease_fence FROM request_logs r"
        " JOIN request_sessions s USING (session_id) WHERE r.status = 'queued' AND r.integration_type = 'slack' LIMIT 1"
    )
    (answered,) = one(
        "SELECT request_id FROM request_logs WHERE status = 'completed' AND integration_type = 'slack'"
        " AND session_id = %s LIMIT 1",
        session,
    )
    new = {**request, "request_id": "plan-new"}
    return {
        **_CONSTANTS,
        "chunks": json.dumps([{"request_id": waiting, "attempt": 1, "seq": 1, "content": "the"}]),
        "fence": fence + 1,
        "request": json.dumps(new),
        "request_id": waiting,
        "request_ids": [waiting],
        "session_id": session,
        "sessions": [session],
    }, answered
