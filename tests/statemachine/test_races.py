"""Races that the state machine cannot bring about, since it is one thread: two transactions, interleaved by hand."""

from __future__ import annotations

import threading
from typing import Any

import psycopg

from tests.parts.postgres import Postgres
from tests.parts.samples import request_data
from tests.platform.support import until

_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
_CLAIM = "SELECT claim_turn('r1', 'worker', interval '60 s', 5)"
_FAIL = "SELECT fail_request('r1', NULL, 'r1.session', 'not_processed', 'Given up.')"


def record(postgres: Postgres, request_id: str) -> None:
    data = psycopg.types.json.Json(request_data(request_id=request_id, request_type="message"))
    postgres.query("SELECT record_request(%s::jsonb, %s)", data, request_id)


def test_a_request_that_a_worker_has_just_taken_up_is_not_failed_under_its_hands(postgres: Postgres) -> None:
    record(postgres, "r1")
    answers: list[Any] = []
    with postgres.connect() as worker, postgres.connect() as dead_letter:
        worker.execute("BEGIN")
        worker.execute(_CLAIM)
        thread = threading.Thread(target=lambda: answers.append(dead_letter.execute(_FAIL).fetchone()))
        thread.start()
        until(lambda: postgres.query(_WAITS, "%fail_request%")[0][0] == 1, "dead-letter waits for the session")
        worker.execute("COMMIT")
        thread.join()
    assert answers[0][0]["outcome"] == "busy"
    assert postgres.query("SELECT status FROM request_logs") == [("processing",)]
