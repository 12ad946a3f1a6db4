"""session-sweep on real HTTP and PostgreSQL: what stopped moves again, or is ended with notice."""

from __future__ import annotations

import pytest

from tests.functional.session_sweep.support import PING, SOURCE, Sweeping
from tests.parts.events import PREFIX, event
from tests.parts.net import problem

# Requests that stopped moving


def test_a_request_that_stopped_moving_is_sent_on_with_the_same_event(sweeping: Sweeping) -> None:
    ready = sweeping.record("r1")
    assert sweeping.run() == []
    sweeping.age(minutes=11)
    [again] = sweeping.run()
    for name in ("id", "source", "type", "partitionkey", "traceparent", "sessionid", "requestid", "subject"):
        assert again.attribute(name) == ready.attribute(name)
    assert again.body == ready.body
    assert sweeping.postgres.query("SELECT resumes, status FROM request_logs") == [(1, "queued")]
    assert sweeping.run() == []


def test_after_the_bounded_number_it_is_failed_with_notice(sweeping: Sweeping) -> None:
    sweeping.record("r1")
    for _ in range(3):
        sweeping.age(minutes=11)
        assert [one.attribute("id") for one in sweeping.run()] == ["r1.session"]
    sweeping.age(minutes=11)
    [told] = sweeping.run()
    assert told.attribute("type") == PREFIX + "agent.response-ready"
    assert told.attribute("id") == "r1.failed"
    assert told.data()["error"]["message"].endswith(".")
    assert sweeping.postgres.query("SELECT status, error_code, resumes FROM request_logs") == [
        ("failed", "not_processed", 3)
    ]
    sweeping.age(minutes=11)
    assert sweeping.run() == []


@pytest.mark.parametrize(
    "moving",
    [
        "UPDATE request_sessions SET lease_owner = 'w', lease_until = now() + interval '10 seconds'",
        "UPDATE request_sessions SET turn_claimed_at = now() - interval '5 minutes'",
        "UPDATE request_logs SET recorded_at = now() - interval '5 minutes'",
    ],
    ids=["a turn runs", "a turn was tried recently", "young"],
)
def test_what_moves_is_left_alone(sweeping: Sweeping, moving: str) -> None:
    sweeping.record("r1")
    sweeping.record("r2")
    sweeping.age(minutes=60)
    sweeping.postgres.query(moving)
    assert sweeping.run() == []


def test_a_turn_whose_worker_died_is_sent_on(sweeping: Sweeping) -> None:
    sweeping.record("r1")
    sweeping.postgres.query("UPDATE request_logs SET status = 'processing', attempts = 1")
    sweeping.postgres.query(
        "UPDATE request_sessions SET lease_owner = 'w', lease_until = now() + interval '10 seconds', turn_claimed_at = now()"
    )
    sweeping.age(minutes=11)
    assert [one.attribute("id") for one in sweeping.run()] == ["r1.session"]


def test_when_the_broker_is_away_nothing_is_counted_and_the_tick_is_tried_again(sweeping: Sweeping) -> None:
    sweeping.record("r1")
    sweeping.age(minutes=11)
    sweeping.broker.status = 500
    problem(sweeping.sweep.post_event(event(PING, "1", {}, source=SOURCE)), 503)
    assert sweeping.postgres.query("SELECT resumes FROM request_logs") == [(0,)]
    sweeping.broker.status = 202
    assert [one.attribute("id") for one in sweeping.run()] == ["r1.session"]


# Answers that did not arrive


@pytest.mark.parametrize("integration", ["slack", "tool"])
def test_an_answer_that_did_not_arrive_is_sent_on_a_bounded_number_of_times(sweeping: Sweeping, integration: str) -> None:
    sweeping.record("r1")
    sweeping.finish("r1", integration=integration)
    assert sweeping.run() == []
    for _ in range(3):
        sweeping.age(minutes=11)
        [again] = sweeping.run()
        assert (again.attribute("id"), again.data()["content"]) == ("r1.response", "the answer")
    sweeping.age(minutes=11)
    assert sweeping.run() == []
    [(error, given_up)] = sweeping.postgres.query("SELECT delivery_error, undeliverable_at IS NOT NULL FROM request_logs")
    assert error.startswith("Given up")
    assert given_up


@pytest.mark.parametrize(
    "settled",
    [
        "UPDATE request_logs SET delivered_at = now()",
        "UPDATE request_logs SET undeliverable_at = now(), delivery_error = 'The webhook answered 404.'",
        "UPDATE request_logs SET delivery_until = now() + interval '10 seconds'",
        "UPDATE request_logs SET integration_type = 'web'",
        "UPDATE request_logs SET completed_at = now() - interval '2 days'",
    ],
    ids=["it arrived", "it was refused for good", "it is being sent", "a browser reads its own", "nobody waits any more"],
)
def test_an_answer_that_is_settled_or_old_is_not_sent_on(sweeping: Sweeping, settled: str) -> None:
    sweeping.record("r1")
    sweeping.finish("r1", integration="slack")
    sweeping.age(minutes=30)
    sweeping.postgres.query(settled)
    assert sweeping.run() == []
