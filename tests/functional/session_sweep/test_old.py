"""session-sweep on real HTTP and PostgreSQL: what is idle ends, what is old goes, a bounded number at a time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional.session_sweep.support import PING, SOURCE, Sweeping
from tests.parts.events import event, request_created
from tests.parts.functions import Event, Function
from tests.parts.net import problem

# Its tick


@pytest.mark.parametrize(
    "tick",
    [
        pytest.param(event(PING, "1", {"any": "thing"}, source=SOURCE), id="binary, JSON"),
        pytest.param(Event({**event(PING, "1", {}).headers, "content-type": "text/plain"}, b"now"), id="binary, text"),
        pytest.param(Event(event(PING, "1", {}).headers, b"{no json"), id="binary, not what it says"),
        pytest.param(Event(event(PING, "1", {}).headers, b""), id="binary, no data"),
        pytest.param(
            Event(
                {"content-type": "application/cloudevents+json"},
                json.dumps({"specversion": "1.0", "type": PING, "source": SOURCE, "id": "1", "data": [1]}).encode(),
            ),
            id="structured",
        ),
        pytest.param(
            Event(
                {"content-type": "application/cloudevents+json"},
                json.dumps({"specversion": "1.0", "type": PING, "source": SOURCE, "id": "1"}).encode(),
            ),
            id="structured, no data",
        ),
    ],
)
def test_a_tick_is_a_tick_whatever_its_data_are(sweeping: Sweeping, tick: Event) -> None:
    sweeping.record("r1")
    sweeping.age(days=2)
    answer = sweeping.sweep.post_event(tick)
    assert (answer.status, answer.body) == (204, b"")
    assert sweeping.postgres.query("SELECT status FROM request_sessions") == [("expired",)]


@pytest.mark.parametrize(
    "broken",
    [request_created(), event(PING, "1", {}).but(id=None), Event({"content-type": "application/json"}, b"{}")],
    ids=["another event", "no id", "no event"],
)
def test_what_is_no_tick_is_400_and_nothing_happens(sweeping: Sweeping, broken: Event) -> None:
    sweeping.record("r1")
    sweeping.age(days=2)
    problem(sweeping.sweep.post_event(broken), 400)
    assert sweeping.postgres.query("SELECT status FROM request_sessions") == [("active",)]


# Sessions


def test_an_idle_session_is_expired_and_the_next_message_opens_another(sweeping: Sweeping) -> None:
    old = sweeping.record("r1").attribute("sessionid")
    sweeping.finish("r1")
    sweeping.age(days=2)
    before = sweeping.metric("sessions_expired")
    assert sweeping.run() == []
    assert sweeping.postgres.query("SELECT status FROM request_sessions") == [("expired",)]
    assert sweeping.metric("sessions_expired") == before + 1
    assert sweeping.record("r2").attribute("sessionid") != old


def test_a_session_that_lives_on_is_looked_at_rarely(sweeping: Sweeping) -> None:
    sweeping.record("r1")
    sweeping.postgres.query("UPDATE request_sessions SET check_at = now() - interval '1 minute'")
    sweeping.run()
    found = sweeping.postgres.query("SELECT status, check_at > now() + interval '1 hour' FROM request_sessions")
    assert found == [("active", True)]


def test_a_request_updates_its_session_without_touching_an_index(sweeping: Sweeping) -> None:
    """Recorded, claimed and committed: all updates of the session's row are HOT."""
    sweeping.record("r0")
    sweeping.finish("r0")
    data = request_created(request_type="message").data()
    result = {"status": "completed", "content": "x", "model_calls": 1, "input_tokens": 1, "output_tokens": 1, "metadata": {}}
    with sweeping.postgres.connect() as connection:
        connection.execute("SELECT pg_stat_reset_single_table_counters('request_sessions'::regclass)")
        for number in range(5):
            request = json.dumps({**data, "request_id": f"hot{number}"})
            connection.execute("SELECT record_request(%s, 'e')", (request,))
            connection.execute("SELECT claim_turn(%s, 'me', '10 seconds', 5)", (f"hot{number}",))
            connection.execute(
                "SELECT finish_turn(%s, 'me', (SELECT max(lease_fence) FROM request_sessions), %s)",
                (f"hot{number}", json.dumps(result)),
            )
        connection.execute("SELECT pg_stat_force_next_flush()")
        counters = connection.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'request_sessions'"
        ).fetchone()
    assert counters == (15, 15)


# Retention


def test_finished_requests_and_their_session_go_after_the_retention(sweeping: Sweeping) -> None:
    sweeping.record("r1")
    sweeping.finish("r1")
    sweeping.age(days=2)
    sweeping.run()
    assert (sweeping.count("request_sessions"), sweeping.count("request_logs")) == (1, 1)
    sweeping.age(days=90)
    sweeping.run()
    assert (sweeping.count("request_sessions"), sweeping.count("request_logs")) == (0, 0)


def test_of_a_session_that_lives_on_only_the_old_requests_go(sweeping: Sweeping) -> None:
    sweeping.record("old")
    sweeping.finish("old")
    sweeping.age(days=91)
    sweeping.postgres.query("UPDATE request_sessions SET expires_at = now() + interval '1 hour'")
    sweeping.record("new", accepted_at="2099-01-01T00:00:00Z")
    sweeping.run()
    assert sweeping.postgres.query("SELECT request_id FROM request_logs") == [("new",)]
    assert sweeping.count("request_sessions") == 1


def test_a_past_sessions_requests_go_one_by_one_as_they_grow_old(sweeping: Sweeping) -> None:
    for request_id in ("old", "new"):
        sweeping.record(request_id)
        sweeping.finish(request_id)
    sweeping.age(days=2)
    sweeping.run()
    sweeping.age(days=60)
    sweeping.postgres.query(
        "UPDATE request_logs SET accepted_at = accepted_at - interval '60 days' WHERE request_id = 'old'"
    )
    sweeping.postgres.query("UPDATE request_sessions SET created_at = created_at - interval '60 days'")
    sweeping.postgres.query("UPDATE request_sessions SET check_at = created_at")
    sweeping.postgres.query("UPDATE request_logs SET accepted_at = now() - interval '10 days' WHERE request_id = 'new'")
    sweeping.run()
    assert sweeping.postgres.query("SELECT request_id FROM request_logs") == [("new",)]
    assert sweeping.count("request_sessions") == 1


def test_refused_requests_without_a_session_and_dead_letters_go_too(sweeping: Sweeping) -> None:
    sweeping.postgres.query("UPDATE integration_configs SET enabled = false")
    sweeping.record("refused")
    sweeping.postgres.query(
        "INSERT INTO dead_letters (event_source, event_id, event_type, destination, event) VALUES ('s', 'e', 't', 'd', '{}')"
    )
    sweeping.run()
    assert (sweeping.count("request_logs"), sweeping.count("dead_letters")) == (1, 1)
    sweeping.age(days=91)
    sweeping.run()
    assert (sweeping.count("request_logs"), sweeping.count("dead_letters")) == (0, 0)


def test_what_is_unfinished_is_never_deleted(sweeping: Sweeping) -> None:
    sweeping.record("r1")
    sweeping.age(days=200)
    sweeping.run()
    assert sweeping.postgres.query("SELECT status FROM request_logs") == [("queued",)]
    assert sweeping.count("request_sessions") == 1


def test_a_run_deletes_a_bounded_number_and_the_next_goes_on(sweeping: Sweeping) -> None:
    """SWEEP_BATCH=10, SWEEP_BATCHES=3: 30 rows of a kind."""
    for number in range(35):
        sweeping.record(f"r{number}", conversation_key=f"c{number % 7}")
        sweeping.finish(f"r{number}")
    sweeping.age(days=2)
    sweeping.run()
    sweeping.age(days=91)
    sweeping.run()
    assert sweeping.count("request_logs") == 5
    sweeping.run()
    assert (sweeping.count("request_logs"), sweeping.count("request_sessions")) == (0, 0)


def test_a_row_that_somebody_holds_is_passed_by_and_nobody_waits(sweeping: Sweeping) -> None:
    for number in range(2):
        sweeping.record(f"r{number}", conversation_key=f"c{number}")
        sweeping.finish(f"r{number}")
    sweeping.age(days=2)
    with sweeping.postgres.connect() as connection, connection.transaction():
        connection.execute("SELECT 1 FROM request_sessions WHERE conversation_key = 'c0' FOR UPDATE")
        sweeping.run()
        assert sweeping.postgres.query("SELECT conversation_key, status FROM request_sessions ORDER BY 1") == [
            ("c0", "active"),
            ("c1", "expired"),
        ]


def test_two_sweeps_at_once_do_the_work_once(sweeping: Sweeping, serve: Callable[..., Function]) -> None:
    other = serve("session-sweep", {**sweeping.postgres.environment(), "BROKER_URL": sweeping.broker.url})
    for number in range(40):
        sweeping.record(f"r{number}", conversation_key=f"c{number}")
        if number >= 5:
            sweeping.finish(f"r{number}")
    sweeping.age(minutes=20)
    sweeping.postgres.query("UPDATE request_sessions SET expires_at = now(), check_at = now()")
    tick = event(PING, "1", {}, source=SOURCE)
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda one: one.post_event(tick), [sweeping.sweep, other, sweeping.sweep, other]))
    assert {answer.status for answer in answers} == {204}
    assert sweeping.postgres.query("SELECT DISTINCT status FROM request_sessions") == [("expired",)]
    assert sweeping.postgres.query("SELECT count(*), max(resumes) FROM request_logs WHERE resumes > 0") == [(5, 1)]
    assert {one.attribute("id") for one in sweeping.broker.events} == {f"r{number}.session" for number in range(5)}


def test_while_it_sweeps_requests_are_recorded_at_once(sweeping: Sweeping) -> None:
    """The hot path beside a sweep with much to do: nothing waits for more than a batch's moment."""
    with sweeping.postgres.connect() as connection:
        connection.execute(
            "INSERT INTO request_sessions (integration_type, user_id, conversation_key, expires_at, created_at, check_at)"
            " SELECT 'web', 'u', 'old' || n, now() - interval '100 days', now() - interval '100 days',"
            " now() - interval '100 days' FROM generate_series(1, 5000) n"
        )
    big = Function(
        "session-sweep", {**sweeping.postgres.environment(), "BROKER_URL": sweeping.broker.url, "SWEEP_BATCHES": "100"}
    )
    try:
        stop = threading.Event()
        slowest = 0.0
        with ThreadPoolExecutor() as pool:
            swept = pool.submit(big.post_event, event(PING, "1", {}, source=SOURCE))
            swept.add_done_callback(lambda _: stop.set())
            number = 0
            while not stop.is_set() or number == 0:
                started = time.monotonic()
                sweeping.record(f"r{number}", conversation_key=f"c{number % 3}")
                slowest = max(slowest, time.monotonic() - started)
                number += 1
            assert swept.result(60).status == 204
        assert slowest < 2.0
        assert sweeping.count("request_sessions") == 3
    finally:
        big.close()
