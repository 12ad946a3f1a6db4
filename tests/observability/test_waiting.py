"""What session-sweep shows of the database: what waits, whichever functions have a pod."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from infra.operate import letters
from tests.functional.test_dead_letter import dead
from tests.observability.scrape import Scrape, grown
from tests.parts.events import PREFIX, event, request_created
from tests.parts.functions import Function
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder

FRESH_SECONDS = 5.0  # functions/session-sweep/waiting.py
GAUGES = ("turns_unfinished", "answers_undelivered", "dead_letters_waiting", "webhooks_off")

Start = Callable[[], Function]


@pytest.fixture
def sweep(serve: Callable[..., Function], postgres: Postgres, recorder: Recorder) -> Start:
    """A process that has read nothing yet."""
    recorder.clear()
    return lambda: serve("session-sweep", {**postgres.environment(), "BROKER_URL": recorder.url})


def insert(postgres: Postgres, request_id: str, **columns: Any) -> None:
    """A request, as a row; `columns` are SQL expressions."""
    given = {"status": "'queued'", "integration_type": "'tool'", **columns}
    postgres.query(
        f"INSERT INTO request_logs (request_id, user_id, request_content, normalized_request, cloudevent_id, accepted_at,"
        f" {', '.join(given)}) VALUES (%s, 'ann', 'q', '{{}}', 'e', now(), {', '.join(given.values())})",
        request_id,
    )


def test_nothing_waits_in_an_empty_database(sweep: Start) -> None:
    seen = Scrape(sweep())
    for status in ("queued", "processing"):
        assert seen.value("turns_unfinished", status=status) == 0
        assert seen.value("turns_oldest_seconds", status=status) == 0
    assert seen.value("answers_undelivered") == seen.value("answers_undelivered_oldest_seconds") == 0
    assert seen.value("dead_letters_waiting") == seen.value("webhooks_off") == 0


def test_turns_are_counted_by_status_with_the_age_of_the_oldest(sweep: Start, postgres: Postgres) -> None:
    insert(postgres, "r1", recorded_at="now() - interval '100 s'")
    insert(postgres, "r2")
    insert(postgres, "r3", status="'processing'", recorded_at="now() - interval '1 h'")
    insert(postgres, "r4", status="'completed'", completed_at="now()", recorded_at="now() - interval '1 d'")
    seen = Scrape(sweep())
    assert seen.value("turns_unfinished", status="queued") == 2
    assert seen.value("turns_unfinished", status="processing") == 1
    oldest = seen.value("turns_oldest_seconds", status="queued")
    assert oldest is not None
    assert 100 <= oldest < 1000
    assert (seen.value("turns_oldest_seconds", status="processing") or 0) >= 3600


def test_answers_on_their_way_are_those_that_are_sent_and_have_not_arrived(sweep: Start, postgres: Postgres) -> None:
    done = {"status": "'completed'", "completed_at": "now() - interval '200 s'"}
    insert(postgres, "on-its-way", **done)
    insert(postgres, "read", **done, integration_type="'web'")
    insert(postgres, "arrived", **{**done, "completed_at": "now() - interval '1 d'"}, delivered_at="now()")
    insert(postgres, "given-up", **{**done, "completed_at": "now() - interval '1 d'"}, undeliverable_at="now()")
    insert(postgres, "unfinished")
    seen = Scrape(sweep())
    assert seen.value("answers_undelivered") == 1
    oldest = seen.value("answers_undelivered_oldest_seconds")
    assert oldest is not None
    assert 200 <= oldest < 1000


class TestDeadLetters:
    @pytest.fixture
    def dead_letter(self, serve: Callable[..., Function], postgres: Postgres, recorder: Recorder) -> Function:
        return serve("dead-letter", {**postgres.environment(), "BROKER_URL": recorder.url})

    def test_one_that_is_sent_again_does_not_wait_and_one_that_is_given_up_does(
        self, dead_letter: Function, sweep: Start
    ) -> None:
        assert dead_letter.post_event(dead(request_created(request_id="r1"), "503")).status == 204
        assert Scrape(sweep()).value("dead_letters_waiting") == 0
        assert dead_letter.post_event(dead(request_created(request_id="r1"), "503", resends="3")).status == 204
        assert dead_letter.post_event(dead(request_created(request_id="r2"), "400")).status == 204
        assert Scrape(sweep()).value("dead_letters_waiting") == 2

    def test_one_that_was_replayed_does_not_wait_until_it_is_given_up_again(
        self, dead_letter: Function, sweep: Start, postgres: Postgres
    ) -> None:
        gone = dead(request_created(request_id="r1"), "400")
        dead_letter.post_event(gone)
        with postgres.connect() as connection:
            [letter] = letters.find(connection, letters.Filter())
            letters.note_replayed(connection, letter, letters.now(connection))
        assert Scrape(sweep()).value("dead_letters_waiting") == 0
        dead_letter.post_event(gone)
        assert Scrape(sweep()).value("dead_letters_waiting") == 1

    def test_a_missing_sign_in_slack_is_nothing_to_look_at(self, dead_letter: Function, sweep: Start) -> None:
        data = {"session": {"session_id": "s1", "opened": True}, "request": request_created(request_id="r1").data()}
        sign = event(PREFIX + "session.created", "r1.session", data, requestid="r1")
        lost = dead(sign, "400").but(knativeerrordest="http://response-dispatch.agents.svc/")
        assert dead_letter.post_event(lost).status == 204
        assert Scrape(sweep()).value("dead_letters_waiting") == 0


def test_webhooks_that_are_switched_off_are_counted(sweep: Start, postgres: Postgres) -> None:
    for key, delivery in (("on", {"webhook_url": "https://a"}), ("off", {"webhook_url": "https://b", "disabled_at": "x"})):
        postgres.query(
            "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', %s, %s)",
            key,
            json.dumps(delivery),
        )
    assert Scrape(sweep()).value("webhooks_off") == 1


def test_without_a_database_nothing_is_shown_rather_than_an_empty_queue(sweep: Start, postgres: Postgres) -> None:
    function = sweep()
    postgres.stop()
    try:
        Scrape(function)  # whether the database is there is known from the statement before
        seen = Scrape(function)
    finally:
        postgres.start()
    assert [name for name in GAUGES if seen.labels(name)] == []
    assert seen.value("database_up") == 0
    assert seen.value("last_sweep_timestamp_seconds")


def test_readings_close_together_ask_the_database_once(sweep: Start) -> None:
    function = sweep()
    began = time.monotonic()
    for _ in range(4):
        Scrape(function)
    asked = Scrape(function).value("statement_seconds_count", statement="waiting_state") or 0
    assert 1 <= asked <= 1 + (time.monotonic() - began) / FRESH_SECONDS


def test_a_sweep_says_when_it_ended(sweep: Start) -> None:
    function = sweep()
    before = Scrape(function)
    assert function.post_event(event("dev.knative.sources.ping", "tick", {})).status == 204
    assert grown(function, before, "last_sweep_timestamp_seconds") > 0
