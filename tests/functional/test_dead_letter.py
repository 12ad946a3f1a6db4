"""dead-letter over real HTTP and real PostgreSQL: nothing that a Trigger gave up on is lost, and its person is told."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.parts.events import PREFIX, event, request_created
from tests.parts.functions import Event, Function, running
from tests.parts.net import problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder


@pytest.fixture(scope="module")
def functions(postgres_server: Postgres, recorder: Recorder) -> Iterator[dict[str, Function]]:
    settings = {**postgres_server.environment(), "BROKER_URL": recorder.url}
    with running(("dead-letter", "session-upsert"), settings) as started:
        yield started


@pytest.fixture
def dead_letter(functions: dict[str, Function], recorder: Recorder, postgres: Postgres) -> Function:
    recorder.clear()
    return functions["dead-letter"]


def dead(given: Event, code: str = "503", **attributes: str) -> Event:
    """As a broker sends an event to its dead-letter sink."""
    return given.but(
        knativeerrordest="http://agent-invoke.local/",
        knativeerrorcode=code,
        knativeerrordata=base64.b64encode(b"why").decode(),
        **attributes,
    )


def recorded(postgres: Postgres) -> list[tuple[Any, ...]]:
    return postgres.query("SELECT event_id, error_code, resends, seen, destination FROM dead_letters")


@pytest.mark.parametrize("code", ["503", "500", "429", "409", "404", "408", "-1", "", "0"])
def test_what_may_pass_is_sent_again_whole_with_its_own_id(
    dead_letter: Function, recorder: Recorder, postgres: Postgres, code: str
) -> None:
    created = request_created(request_id="r1")
    answer = dead_letter.post_event(dead(created, code))
    assert (answer.status, answer.body) == (204, b"")
    [again] = recorder.events
    assert again.attribute("id") == "r1"
    assert again.attribute("resends") == "1"
    assert again.body == created.body
    assert again.attribute("partitionkey") == created.attribute("partitionkey")
    assert not [name for name in again.headers if "knativeerror" in name]
    assert recorded(postgres) == [("r1", code or None, 0, 1, "http://agent-invoke.local/")]


def test_after_the_bounded_number_the_request_fails_and_its_person_is_told(
    dead_letter: Function, functions: dict[str, Function], recorder: Recorder, postgres: Postgres
) -> None:
    ready = Event.of(functions["session-upsert"].post_event(request_created(request_id="r1")))
    assert dead_letter.post_event(dead(ready, resends="3")).status == 204
    [told] = recorder.events
    assert told.attribute("type") == PREFIX + "agent.response-ready"
    assert told.attribute("id") == "r1.failed"
    assert told.data()["error"]["code"] == "not_processed"
    assert told.data()["error"]["message"].endswith(".")
    assert postgres.query("SELECT status, error_code FROM request_logs") == [("failed", "not_processed")]


def test_a_request_that_was_never_recorded_is_recorded_as_failed(
    dead_letter: Function, recorder: Recorder, postgres: Postgres
) -> None:
    assert dead_letter.post_event(dead(request_created(request_id="r1"), "422")).status == 204
    assert recorder.events[0].attribute("id") == "r1.failed"
    assert postgres.query("SELECT status, user_id, request_content FROM request_logs") == [
        ("failed", "webuser123", "I want to refresh my laptop")
    ]


def test_a_dead_letter_of_an_answered_request_changes_nothing_and_its_answer_goes_out(
    dead_letter: Function, functions: dict[str, Function], recorder: Recorder, postgres: Postgres
) -> None:
    ready = Event.of(functions["session-upsert"].post_event(request_created(request_id="r1")))
    postgres.query(
        "UPDATE request_logs SET status = 'completed', response_content = 'the answer', agent_id = 'a', completed_at = now()"
    )
    assert dead_letter.post_event(dead(ready, "422")).status == 204
    [out] = recorder.events
    assert out.attribute("id") == "r1.response"
    assert out.data()["content"] == "the answer"
    assert postgres.query("SELECT status FROM request_logs") == [("completed",)]


def test_a_turn_that_is_being_worked_on_is_left_alone(
    dead_letter: Function, functions: dict[str, Function], recorder: Recorder, postgres: Postgres
) -> None:
    ready = Event.of(functions["session-upsert"].post_event(request_created(request_id="r1")))
    postgres.query("UPDATE request_logs SET status = 'processing'")
    postgres.query("UPDATE request_sessions SET lease_owner = 'x', lease_until = now() + interval '1 minute'")
    problem(dead_letter.post_event(dead(ready, "422")), 409)
    assert postgres.query("SELECT status FROM request_logs") == [("processing",)]


def test_a_stray_event_that_names_a_healthy_request_does_not_end_it(
    dead_letter: Function, functions: dict[str, Function], recorder: Recorder, postgres: Postgres
) -> None:
    ready = Event.of(functions["session-upsert"].post_event(request_created(request_id="r1")))
    assert dead_letter.post_event(dead(ready.but(id="stray"), "400")).status == 204
    assert postgres.query("SELECT status FROM request_logs") == [("queued",)]
    assert recorded(postgres)[0][0] == "stray"
    assert recorder.events == []


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\x00", b'{"a": "\\u0000"}', b'{"a": NaN}', b'{"a": "\\ud800"}', b"[" * 5000]
)
def test_whatever_its_data_are_the_event_is_kept_whole(
    dead_letter: Function, recorder: Recorder, postgres: Postgres, raw: bytes
) -> None:
    poison = dead(Event(event("com.example.other", "e1", {}).headers, raw), "400")
    assert dead_letter.post_event(poison).status == 204
    [(kept,)] = postgres.query("SELECT event FROM dead_letters")
    assert kept["attributes"]["id"] == "e1"
    assert base64.b64decode(kept["data_base64"]) == raw
    assert recorder.events == []


def test_the_same_dead_letter_twice_is_one_row(dead_letter: Function, recorder: Recorder, postgres: Postgres) -> None:
    letter = dead(request_created(request_id="r1"), "422")
    for _ in range(2):
        assert dead_letter.post_event(letter).status == 204
    assert [row[3] for row in recorded(postgres)] == [2]
    assert len(set(recorder.events)) == 1


def test_a_delivery_that_was_given_up_is_noted_at_the_request(
    dead_letter: Function, functions: dict[str, Function], recorder: Recorder, postgres: Postgres
) -> None:
    functions["session-upsert"].post_event(request_created(request_id="r1"))
    postgres.query("UPDATE request_logs SET status = 'completed', response_content = 'x', completed_at = now()")
    lost = event(PREFIX + "agent.response-ready", "r1.response", {}, requestid="r1")
    assert dead_letter.post_event(dead(lost, "422")).status == 204
    assert postgres.query("SELECT status, delivery_error FROM request_logs") == [("completed", "Given up after 422.")]
    assert recorder.events == []


def test_what_the_channel_said_is_kept_over_what_the_broker_says(
    dead_letter: Function, functions: dict[str, Function], recorder: Recorder, postgres: Postgres
) -> None:
    functions["session-upsert"].post_event(request_created(request_id="r1"))
    postgres.query(
        "UPDATE request_logs SET status = 'completed', response_content = 'x', completed_at = now(),"
        " delivery_error = 'The webhook answered 410.'"
    )
    lost = event(PREFIX + "agent.response-ready", "r1.response", {}, requestid="r1")
    assert dead_letter.post_event(dead(lost, "422")).status == 204
    assert postgres.query("SELECT delivery_error FROM request_logs") == [("The webhook answered 410.",)]
    assert recorded(postgres)[0][0] == "r1.response"


def test_a_delivery_that_succeeded_meanwhile_is_not_called_given_up(
    dead_letter: Function, functions: dict[str, Function], recorder: Recorder, postgres: Postgres
) -> None:
    functions["session-upsert"].post_event(request_created(request_id="r1"))
    postgres.query(
        "UPDATE request_logs SET status = 'completed', response_content = 'x', completed_at = now(), delivered_at = now()"
    )
    lost = event(PREFIX + "agent.response-ready", "r1.response", {}, requestid="r1")
    assert dead_letter.post_event(dead(lost, "503", resends="3")).status == 204
    assert postgres.query("SELECT delivery_error FROM request_logs") == [(None,)]


def test_when_the_broker_is_away_it_is_503_so_that_nothing_is_lost(
    dead_letter: Function, recorder: Recorder, postgres: Postgres
) -> None:
    recorder.status = 500
    problem(dead_letter.post_event(dead(request_created(request_id="r1"))), 503)


def test_what_is_no_event_is_400(dead_letter: Function, postgres: Postgres) -> None:
    problem(dead_letter.post_event(Event({"content-type": "application/json"}, b"{}")), 400)
    assert recorded(postgres) == []
