"""`python -m infra.operate dlq replay` on real PostgreSQL: what a replay does, and what it leaves alone."""

from __future__ import annotations

import pytest

from tests.functional.operate.support import POISON, Operating, of_tool
from tests.parts.events import event, request_created
from tests.parts.functions import Event


def test_a_replay_publishes_the_same_event_and_says_when(operating: Operating) -> None:
    created = request_created(request_id="r1", content="A printer?")
    number = operating.bury(created.but(data={**created.data(), "user_id": ""}))  # poison: no user
    [row] = operating.json("dlq", "replay", str(number))
    [again] = operating.broker.events
    assert row == {"id": number, "event_id": "r1", "published": True, "replay": POISON}
    for name in ("id", "source", "type", "subject", "partitionkey", "traceparent", "requestid"):
        assert again.attribute(name) == created.attribute(name)
    assert again.headers["content-type"] == "application/json"
    assert again.data() == {**created.data(), "user_id": ""}
    assert operating.postgres.query("SELECT replayed_at IS NOT NULL FROM dead_letters") == [(True,)]


@pytest.mark.parametrize("raw", [b"\xff\x00 no JSON", b"", b'{"a": "\\u0000"}'])
def test_an_event_of_any_data_is_replayed_whole(operating: Operating, raw: bytes) -> None:
    stray = Event(event("com.example.other", "e1", {}).headers, raw)
    number = operating.bury(stray)
    operating.ok("dlq", "replay", str(number))
    [again] = operating.broker.events
    assert (again.attribute("id"), again.body) == ("e1", raw)


def test_a_replay_of_something_already_answered_changes_nothing(operating: Operating) -> None:
    created = of_tool("r1")
    seen = operating.deliver(created)
    assert len(operating.hook.events) == 1
    numbers = [operating.bury(one) for one in seen]
    before, calls = operating.tables(), len(operating.model.calls())
    rows = operating.json("dlq", "replay", *map(str, numbers))
    assert {row["replay"] for row in rows} == {"nothing: the request is answered, and that was delivered"}
    assert [one.attribute("id") for one in operating.broker.events] == ["r1", "r1.session", "r1.response"]
    for one in list(operating.broker.events):
        operating.deliver(one)
    assert operating.tables() == before
    assert len(operating.model.calls()) == calls
    assert len(operating.hook.events) == 1


def test_a_request_that_was_ended_stays_ended_and_only_its_sentence_is_sent(operating: Operating) -> None:
    created = of_tool("r1")
    number = operating.bury(created)  # never recorded: dead-letter ended it as failed
    [row] = operating.json("dlq", "replay", str(number), "--dry-run")
    assert (
        row["replay"] == "the request has failed (not_processed); the sentence that says so is sent again, with the same key"
    )
    operating.ok("dlq", "replay", str(number))
    operating.deliver(operating.broker.events[0])
    assert operating.postgres.query("SELECT status, error_code FROM request_logs") == [("failed", "not_processed")]
    assert operating.model.calls() == []
    [sent] = operating.hook.events
    assert sent.headers["webhook-id"] == "r1.failed"


def test_a_failed_deliverys_replay_sends_again_with_the_same_key(operating: Operating) -> None:
    operating.hook.status = 404
    created = of_tool("r1")
    [_, ready] = [created, Event.of(operating.functions["session-upsert"].post_event(created))]
    out = Event.of(operating.functions["agent-invoke"].post_event(ready))
    assert operating.functions["response-dispatch"].post_event(out).status == 422
    number = operating.bury(out)
    [(error,)] = operating.postgres.query("SELECT delivery_error FROM request_logs")
    assert error == "The webhook answered 404."
    assert operating.json("dlq", "show", str(number))["replay"] == (
        "the request is answered; the answer is sent again, with the same key"
    )
    operating.hook.status = 204
    operating.ok("dlq", "replay", str(number))
    operating.deliver(operating.broker.events[0])
    first, second = operating.hook.events
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == "r1.response"
    assert operating.postgres.query("SELECT delivered_at IS NOT NULL, delivery_error FROM request_logs") == [(True, None)]


def test_a_request_that_nobody_recorded_is_worked_on(operating: Operating) -> None:
    """Its dead letter is kept; its row is not (deleted by hand, or restored from an older backup)."""
    number = operating.bury(of_tool("r1"))
    operating.postgres.query("DELETE FROM request_logs")
    [row] = operating.json("dlq", "replay", str(number))
    assert row["replay"] == "the request is recorded and worked on"
    operating.deliver(operating.broker.events[0])
    assert operating.postgres.query("SELECT status FROM request_logs") == [("completed",)]
    assert [one.headers["webhook-id"] for one in operating.hook.events] == ["r1.response"]


def test_a_request_that_stands_still_goes_on(operating: Operating) -> None:
    ready = Event.of(operating.functions["session-upsert"].post_event(of_tool("r1")))
    number = operating.bury(ready.but(id="stray"))  # a stray one does not end the request
    assert operating.json("dlq", "show", str(number))["replay"] == "the request goes on where it stopped"


def test_a_dry_run_publishes_and_writes_nothing(operating: Operating) -> None:
    number = operating.bury(of_tool("r1"))
    before = operating.tables()
    said = operating.ok("dlq", "replay", str(number), "--dry-run")
    assert said.startswith(f"{number} would be published: the request has failed")
    assert operating.broker.events == []
    assert operating.postgres.query("SELECT replayed_at FROM dead_letters") == [(None,)]
    assert operating.tables() == before
