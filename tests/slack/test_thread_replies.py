"""Who is heard in a Slack thread without mentioning us: those in conversation with us there. Nothing else is kept."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.parts.events import PREFIX, request_created
from tests.parts.functions import Event, Function
from tests.parts.postgres import Postgres


@pytest.fixture(scope="module")
def upsert(postgres_server: Postgres) -> Iterator[Function]:
    function = Function("session-upsert", postgres_server.environment())
    yield function
    function.close()


def said(kind: str, *, person: str = "ann", request_id: str | None = None) -> Event:
    return request_created(
        request_id=request_id or str(uuid.uuid4()),
        integration_type="slack",
        user_id=f"slack:T0TEAM:{person}",
        request_type=kind,
        conversation_key=f"the-thread-{person}",
        shared_key="the-thread",
        channel_id="C0GENERAL",
        thread_id="1700000000.000100",
        metadata={"slack_event": kind},
    )


def ignored(function: Function, event: Event) -> bool:
    answer = function.post_event(event)
    assert answer.status in (200, 204), answer.body
    return (answer.status, answer.body) == (204, b"")


def test_other_peoples_talk_leaves_no_trace(upsert: Function, postgres: Postgres) -> None:
    assert ignored(upsert, said("thread_reply"))
    assert postgres.query("SELECT count(*) FROM request_logs") == [(0,)]
    assert postgres.query("SELECT count(*) FROM request_sessions") == [(0,)]


def test_who_asked_us_in_the_thread_is_heard_and_another_person_is_not(upsert: Function, postgres: Postgres) -> None:
    first = Event.of(upsert.post_event(said("mention")))
    reply = Event.of(upsert.post_event(said("thread_reply")))
    assert reply.attribute("type") == PREFIX + "session.updated"
    assert reply.attribute("sessionid") == first.attribute("sessionid")
    assert ignored(upsert, said("thread_reply", person="ben"))


def test_where_a_thread_is_shared_everybody_in_it_is_heard(upsert: Function, postgres: Postgres) -> None:
    postgres.query("UPDATE integration_configs SET session_scope = 'thread' WHERE integration_type = 'slack'")
    first = Event.of(upsert.post_event(said("mention")))
    reply = Event.of(upsert.post_event(said("thread_reply", person="ben")))
    assert reply.attribute("sessionid") == first.attribute("sessionid")


def test_a_conversation_that_has_ended_is_not_taken_up_by_talk(upsert: Function, postgres: Postgres) -> None:
    upsert.post_event(said("mention"))
    postgres.query("UPDATE request_sessions SET expires_at = now() - interval '1 second'")
    assert ignored(upsert, said("thread_reply"))


def test_where_slack_is_switched_off_talk_is_not_answered(upsert: Function, postgres: Postgres) -> None:
    upsert.post_event(said("mention"))
    postgres.query("UPDATE integration_configs SET enabled = false WHERE integration_type = 'slack'")
    assert ignored(upsert, said("thread_reply"))


def test_a_mention_that_comes_both_ways_is_recorded_once_whichever_is_first(upsert: Function, postgres: Postgres) -> None:
    for kinds in (("mention", "thread_reply"), ("thread_reply", "mention")):
        postgres.empty()
        for kind in kinds:
            upsert.post_event(said(kind, request_id="r1"))
        assert postgres.query("SELECT request_id, request_type FROM request_logs") == [("r1", "mention")]


def test_the_same_reply_twenty_times_at_once_is_one_request_with_one_reply(upsert: Function, postgres: Postgres) -> None:
    upsert.post_event(said("mention"))
    reply = said("thread_reply", request_id="r2")
    with ThreadPoolExecutor(20) as pool:
        replies = {Event.of(answer) for answer in pool.map(upsert.post_event, [reply] * 20)}
    assert len(replies) == 1
    assert postgres.query("SELECT count(*) FROM request_logs") == [(2,)]
