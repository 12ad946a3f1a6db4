"""Races that the state machine cannot bring about, since it is one thread: two transactions, interleaved by hand.

The first statement has done its work and not committed when the second one begins; the second waits, and sees what it must.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
from psycopg.types.json import Json

from tests.parts.postgres import Postgres
from tests.parts.samples import request_data
from tests.platform.support import until

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND state = 'active'"
_FAIL = "SELECT fail_request('r1', NULL, 'r1.session', 'not_processed', 'Given up.')"
_RESULT = """{"status": "completed", "content": "yes", "agent_id": "a", "model_calls": 1, "input_tokens": 1,
              "output_tokens": 1, "metadata": {}}"""


def claim(owner: str) -> str:
    return f"SELECT claim_turn('r1', '{owner}', interval '60 s', 5)"


def finish(owner: str, fence: int) -> str:
    return f"SELECT finish_turn('r1', '{owner}', {fence}, '{_RESULT}')"


def record(request_id: str) -> tuple[str, Any, str]:
    data = request_data(request_id=request_id, request_type="message")
    return "SELECT record_request(%s::jsonb, %s)", Json(data), request_id


def race(postgres: Postgres, first: str, second: str, *parameters: Any) -> tuple[Any, Any]:
    """The values of two statements of which the second began before the first one had committed."""
    values: list[Any] = []
    with postgres.connect() as one, postgres.connect() as two:
        one.execute("BEGIN")
        earlier = one.execute(first).fetchone()
        thread = threading.Thread(target=lambda: values.append(two.execute(second, parameters or None).fetchone()))
        thread.start()
        until(lambda: postgres.query(_WAITING) == [(1,)], "the second one waits for the first")
        one.execute("COMMIT")
        thread.join()
    return (earlier or (None,))[0], values[0][0]


@pytest.fixture
def recorded(postgres: Postgres) -> Postgres:
    """A database with the queued request r1."""
    postgres.query(*record("r1"))
    return postgres


def leases_end(postgres: Postgres) -> None:
    postgres.query("UPDATE request_sessions SET lease_until = now() - interval '1 s'")


def test_two_workers_claim_and_one_has_the_turn(recorded: Postgres) -> None:
    first, second = race(recorded, claim("one"), claim("two"))
    assert (first["outcome"], second["outcome"]) == ("claimed", "busy")


def test_a_commit_that_comes_while_the_turn_is_taken_over_is_lost(recorded: Postgres) -> None:
    recorded.query(claim("one"))
    leases_end(recorded)
    first, second = race(recorded, claim("two"), finish("one", 1))
    assert (first["outcome"], first["fence"], second["outcome"]) == ("claimed", 2, "lost")
    assert recorded.query("SELECT r.status, lease_owner FROM request_logs r JOIN request_sessions USING (session_id)") == [
        ("processing", "two")
    ]


def test_a_claim_that_comes_while_the_turn_is_committed_gets_its_answer(recorded: Postgres) -> None:
    recorded.query(claim("one"))
    leases_end(recorded)
    first, second = race(recorded, finish("one", 1), claim("two"))
    assert (first["outcome"], second["outcome"]) == ("committed", "finished")
    assert second["answer"] == first["answer"]


def test_a_request_that_a_worker_has_just_taken_up_is_not_failed_under_its_hands(recorded: Postgres) -> None:
    """Regression: dead-letter looked at the request before it had the session's lock, and not again after that."""
    _, failed = race(recorded, claim("one"), _FAIL)
    assert failed["outcome"] == "busy"
    assert recorded.query("SELECT status FROM request_logs") == [("processing",)]


def test_a_worker_that_claims_while_the_request_is_failed_gets_that_answer(recorded: Postgres) -> None:
    failed, claimed = race(recorded, _FAIL, claim("one"))
    assert (failed["outcome"], claimed["outcome"]) == ("finished", "finished")
    assert claimed["answer"] == failed["answer"]


def test_a_message_that_comes_while_its_session_expires_opens_a_new_one(recorded: Postgres) -> None:
    _, second = race(recorded, "UPDATE request_sessions SET status = 'expired' RETURNING 1", *record("r2"))
    assert second["outcome"] == "created"
    assert recorded.query("SELECT count(DISTINCT session_id) FROM request_logs") == [(2,)]


def test_the_same_event_twice_at_once_is_one_request_of_one_session(postgres: Postgres) -> None:
    statement, data, event_id = record("r1")
    values: list[Any] = []
    with postgres.connect() as one, postgres.connect() as two:
        one.execute("BEGIN")
        values.append(one.execute(statement, (data, event_id)).fetchone())
        thread = threading.Thread(target=lambda: values.append(two.execute(statement, (data, event_id)).fetchone()))
        thread.start()
        until(lambda: postgres.query(_WAITING) == [(1,)], "the second one waits for the first")
        one.execute("COMMIT")
        thread.join()
    assert values[0] == values[1]
    assert postgres.query("SELECT (SELECT count(*) FROM request_logs), (SELECT count(*) FROM request_sessions)") == [(1, 1)]
