"""session-sweep on real HTTP and PostgreSQL: what is idle ends, what is old goes, what stopped moves again or is ended."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.parts.events import PREFIX, event, request_created
from tests.parts.functions import Event, Function
from tests.parts.net import problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder

PING = "dev.knative.sources.ping"
SOURCE = "/apis/v1/namespaces/self-service-agent/pingsources/session-sweep"


@pytest.fixture(scope="module")
def functions(postgres_server: Postgres, recorder: Recorder) -> Iterator[dict[str, Function]]:
    settings = {**postgres_server.environment(), "BROKER_URL": recorder.url, "SWEEP_BATCH": "10", "SWEEP_BATCHES": "3"}
    started = {name: Function(name, settings) for name in ("session-sweep", "session-upsert")}
    yield started
    for function in started.values():
        function.close()


class Sweeping:
    """The function, what it sweeps, and the broker it sends to."""

    def __init__(self, functions: dict[str, Function], postgres: Postgres, broker: Recorder) -> None:
        self.sweep = functions["session-sweep"]
        self.upsert = functions["session-upsert"]
        self.postgres = postgres
        self.broker = broker

    def run(self) -> list[Event]:
        """One tick; what was published in it."""
        before = len(self.broker.events)
        answer = self.sweep.post_event(event(PING, f"tick-{time.monotonic_ns()}", {}, source=SOURCE))
        assert (answer.status, answer.body) == (204, b""), answer.body
        return self.broker.events[before:]

    def record(self, request_id: str, **changes: Any) -> Event:
        """A recorded request; its session event."""
        return Event.of(self.upsert.post_event(request_created(request_id=request_id, **changes)))

    def age(self, *, minutes: float = 0, days: float = 0) -> None:
        """Let everything have happened so much earlier."""
        ago = f"interval '{minutes} minutes' + interval '{days} days'"
        for table, columns in {
            "request_logs": "recorded_at accepted_at completed_at resumed_at redelivered_at delivered_at",
            "request_sessions": "created_at updated_at expires_at check_at turn_claimed_at lease_until",
            "dead_letters": "created_at updated_at",
        }.items():
            moved = ", ".join(f"{column} = {column} - ({ago})" for column in columns.split())
            self.postgres.query(f"UPDATE {table} SET {moved}")

    def finish(self, request_id: str, *, integration: str = "web") -> None:
        """The request is answered."""
        self.postgres.query(
            "UPDATE request_logs SET status = 'completed', response_content = 'the answer',"
            " completed_at = clock_timestamp(), integration_type = %s WHERE request_id = %s",
            integration,
            request_id,
        )

    def count(self, table: str) -> int:
        [(count,)] = self.postgres.query(f"SELECT count(*) FROM {table}")
        return int(count)

    def metric(self, action: str) -> float:
        """How often an action was done since the function started."""
        name = f'self_service_agent_swept_total{{action="{action}"}} '
        for line in self.sweep.get("/metrics").body.decode().splitlines():
            if line.startswith(name):
                return float(line.removeprefix(name))
        return 0.0


@pytest.fixture
def sweeping(functions: dict[str, Function], postgres: Postgres, recorder: Recorder) -> Sweeping:
    recorder.clear()
    return Sweeping(functions, postgres, recorder)


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
