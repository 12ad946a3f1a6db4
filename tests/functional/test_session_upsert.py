"""session-upsert on real HTTP and PostgreSQL: one session a conversation, one row a request, the same reply always."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.parts.events import PREFIX, request_created
from tests.parts.functions import Event, Function
from tests.parts.net import problem
from tests.parts.postgres import Postgres


@pytest.fixture(scope="module")
def upsert(postgres_server: Postgres) -> Iterator[Function]:
    function = Function("session-upsert", postgres_server.environment())
    yield function
    function.close()


def at_once(function: Function, events: list[Event]) -> list[Event]:
    with ThreadPoolExecutor(len(events)) as pool:
        answers = list(pool.map(function.post_event, events))
    assert {answer.status for answer in answers} == {200}, answers
    return [Event.of(answer) for answer in answers]


def counts(postgres: Postgres) -> tuple[int, int]:
    [(sessions, requests)] = postgres.query(
        "SELECT (SELECT count(*) FROM request_sessions), (SELECT count(*) FROM request_logs)"
    )
    return sessions, requests


def test_a_first_request_opens_a_session(upsert: Function, postgres: Postgres) -> None:
    created = request_created(request_id="r1", content="hello", user_id="ann")
    reply = Event.of(upsert.post_event(created))

    assert reply.attribute("type") == PREFIX + "session.created"
    assert reply.attribute("id") == "r1.session"
    assert reply.attribute("source") == "/self-service-agent/session-upsert"
    assert reply.attribute("traceparent") == created.attribute("traceparent")
    assert reply.attribute("partitionkey") == created.attribute("partitionkey")
    data = reply.data()
    assert data["request"]["content"] == "hello"
    [(session_id, user_id, total, last)] = postgres.query(
        "SELECT session_id::text, user_id, total_requests, last_request_id FROM request_sessions"
    )
    assert (session_id, user_id, total, last) == (data["session"]["session_id"], "ann", 1, "r1")
    assert reply.attribute("sessionid") == session_id
    assert postgres.query("SELECT status, request_content, cloudevent_id FROM request_logs") == [("queued", "hello", "r1")]


def test_a_second_request_of_the_conversation_updates_it(upsert: Function, postgres: Postgres) -> None:
    first = Event.of(upsert.post_event(request_created()))
    second = Event.of(upsert.post_event(request_created()))
    assert second.attribute("type") == PREFIX + "session.updated"
    assert first.attribute("sessionid") == second.attribute("sessionid")
    assert postgres.query("SELECT total_requests FROM request_sessions") == [(2,)]


def test_the_same_event_twenty_times_at_once_is_one_request_and_twenty_equal_replies(
    upsert: Function, postgres: Postgres
) -> None:
    replies = at_once(upsert, [request_created(request_id="r1")] * 20)
    assert len(set(replies)) == 1
    assert counts(postgres) == (1, 1)
    assert postgres.query("SELECT total_requests FROM request_sessions") == [(1,)]


def test_the_reply_stays_the_same_when_the_session_has_moved_on(upsert: Function, postgres: Postgres) -> None:
    created = request_created(request_id="r1")
    before = Event.of(upsert.post_event(created))
    upsert.post_event(request_created(request_id="r2"))
    postgres.query("UPDATE request_sessions SET current_agent_id = 'other', status = 'expired'")
    assert Event.of(upsert.post_event(created)) == before
    assert counts(postgres) == (1, 2)


def test_three_first_contacts_at_once_are_one_session(upsert: Function, postgres: Postgres) -> None:
    replies = at_once(upsert, [request_created() for _ in range(3)])
    types = sorted(reply.attribute("type").removeprefix(PREFIX) for reply in replies)
    assert types == ["session.created", "session.updated", "session.updated"]
    assert counts(postgres) == (1, 3)


def test_many_conversations_at_once_never_share_a_session(upsert: Function, postgres: Postgres) -> None:
    at_once(upsert, [request_created(conversation_key=f"c{number % 10}") for number in range(40)])
    assert counts(postgres) == (10, 40)
    assert postgres.query("SELECT DISTINCT total_requests FROM request_sessions") == [(4,)]


def test_an_id_that_comes_again_with_other_content_changes_nothing(upsert: Function, postgres: Postgres) -> None:
    first = Event.of(upsert.post_event(request_created(request_id="r1", content="first")))
    forged = request_created(request_id="r1", content="second", user_id="mallory", conversation_key="c2").but(
        id="new-event-id"
    )
    again = Event.of(upsert.post_event(forged))
    assert again.data() == first.data()
    assert counts(postgres) == (1, 1)
    assert postgres.query("SELECT request_content, user_id FROM request_logs") == [("first", "webuser123")]


def test_one_event_id_of_two_sources_is_two_requests(upsert: Function, postgres: Postgres) -> None:
    one, two = request_created(), request_created()
    at_once(upsert, [one.but(id="same", source="/a"), two.but(id="same", source="/b")])
    assert counts(postgres) == (1, 2)


def test_an_expired_session_is_never_used_again(upsert: Function, postgres: Postgres) -> None:
    old = Event.of(upsert.post_event(request_created())).attribute("sessionid")
    postgres.query("UPDATE request_sessions SET expires_at = now() - interval '1 second'")
    replies = at_once(upsert, [request_created() for _ in range(5)])
    [new] = {reply.attribute("sessionid") for reply in replies}
    assert new != old
    assert postgres.query("SELECT session_id::text, status FROM request_sessions ORDER BY created_at") == [
        (old, "expired"),
        (new, "active"),
    ]


def test_a_session_lives_on_with_each_request(upsert: Function, postgres: Postgres) -> None:
    upsert.post_event(request_created())
    postgres.query("UPDATE request_sessions SET expires_at = now() + interval '1 minute'")
    upsert.post_event(request_created())
    assert postgres.query("SELECT expires_at > now() + interval '1 hour' FROM request_sessions") == [(True,)]


def test_a_shared_thread_is_one_session_where_the_configuration_says_so(upsert: Function, postgres: Postgres) -> None:
    def in_thread(user: str) -> Event:
        return request_created(
            integration_type="slack", user_id=user, conversation_key=f"thread-{user}", shared_key="thread", channel_id="C1"
        )

    at_once(upsert, [in_thread("ann"), in_thread("ben")])
    assert counts(postgres) == (2, 2)
    postgres.empty()
    postgres.query("UPDATE integration_configs SET session_scope = 'thread' WHERE integration_type = 'slack'")
    at_once(upsert, [in_thread("ann"), in_thread("ben")])
    assert counts(postgres) == (1, 2)


def test_a_disabled_integration_is_recorded_as_failed_and_answered_so(upsert: Function, postgres: Postgres) -> None:
    postgres.query("UPDATE integration_configs SET enabled = false WHERE integration_type = 'web'")
    created = request_created(request_id="r1")
    replies = at_once(upsert, [created] * 5)
    assert len(set(replies)) == 1
    reply = replies[0]
    assert reply.attribute("type") == PREFIX + "agent.response-ready"
    assert reply.attribute("id") == "r1.failed"
    assert reply.data()["status"] == "failed"
    assert reply.data()["error"]["code"] == "integration_disabled"
    assert postgres.query("SELECT status, error_code FROM request_logs") == [("failed", "integration_disabled")]
    assert counts(postgres) == (0, 1)


def test_one_tool_can_be_disabled_alone(upsert: Function, postgres: Postgres) -> None:
    postgres.query(
        "INSERT INTO integration_configs (integration_type, integration_key, enabled) VALUES ('tool', 'noisy', false)"
    )
    noisy = request_created(integration_type="tool", integration_key="noisy")
    quiet = request_created(integration_type="tool", integration_key="quiet")
    assert Event.of(upsert.post_event(noisy)).data().get("status") == "failed"
    assert Event.of(upsert.post_event(quiet)).attribute("type") == PREFIX + "session.created"


def test_a_turn_that_comes_late_stands_behind_those_already_started(upsert: Function, postgres: Postgres) -> None:
    upsert.post_event(request_created(request_id="second", accepted_at="2026-01-01T00:00:02Z"))
    postgres.query("UPDATE request_sessions SET last_turn_at = '2026-01-01T00:00:02Z'")  # as claim_turn leaves it
    upsert.post_event(request_created(request_id="first", accepted_at="2026-01-01T00:00:01Z"))
    upsert.post_event(request_created(request_id="third", accepted_at="2026-01-01T00:00:03Z"))
    assert postgres.query("SELECT request_id FROM request_logs ORDER BY accepted_at") == [
        ("second",),
        ("first",),
        ("third",),
    ]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda e: e.but(specversion=None), id="no specversion"),
        pytest.param(lambda e: e.but(id=None), id="no id"),
        pytest.param(lambda e: e.but(type=None), id="no type"),
        pytest.param(lambda e: e.but(source=None), id="no source"),
        pytest.param(lambda e: e.but(type=PREFIX + "session.created"), id="another type"),
        pytest.param(lambda e: e.but(type="boson.fn"), id="an unknown type"),
        pytest.param(lambda e: e.but(data=[]), id="no object"),
        pytest.param(lambda e: e.but(data={"request_id": "r"}), id="fields missing"),
        pytest.param(lambda e: e.but(data={**e.data(), "accepted_at": "yesterday"}), id="a wrong time"),
        pytest.param(lambda e: e.but(data={**e.data(), "integration_type": "Fax!"}), id="no integration's name"),
        pytest.param(lambda e: e.but(data={**e.data(), "content": "NUL \x00"}), id="NUL in text"),
        pytest.param(lambda e: e.but(data={**e.data(), "context": {"a": "NUL \x00"}}), id="NUL in JSON"),
        pytest.param(lambda e: Event(e.headers, b"{"), id="malformed data"),
        pytest.param(lambda e: Event(e.headers, b""), id="no data"),
        pytest.param(lambda e: Event({"content-type": "application/json"}, e.body), id="no event at all"),
    ],
)
def test_what_is_no_request_created_is_400_in_one_log_line(upsert: Function, postgres: Postgres, broken: Any) -> None:
    lines = len(upsert.log())
    problem(upsert.post_event(broken(request_created())), 400)
    new = upsert.log()[lines:]
    assert [line["message"] for line in new if line["level"] == "WARNING" and line["message"] == "handled"] == ["handled"]
    assert "NUL" not in str(new)
    assert counts(postgres) == (0, 0)


def test_unknown_fields_are_ignored(upsert: Function, postgres: Postgres) -> None:
    created = request_created()
    reply = upsert.post_event(created.but(data={**created.data(), "from_the_future": True}))
    assert reply.status == 200


def test_structured_mode_is_understood(upsert: Function, postgres: Postgres) -> None:
    created = request_created(request_id="r1")
    whole = {name[3:]: value for name, value in created.headers.items() if name.startswith("ce-")}
    structured = Event({"content-type": "application/cloudevents+json"}, b"").but(data={**whole, "data": created.data()})
    assert Event.of(upsert.post_event(structured)).attribute("id") == "r1.session"


def test_without_the_database_it_is_503_and_unready_and_goes_on_by_itself(serve: Any, postgres: Postgres) -> None:
    upsert = serve("session-upsert", postgres.environment())
    assert upsert.post_event(request_created()).status == 200
    created = request_created(request_id="r1")
    postgres.stop()
    try:
        answer = upsert.post_event(created)
        problem(answer, 503)
        assert "retry-after" in answer.headers
        assert upsert.get("/health/readiness").status == 503
        assert upsert.get("/health").status == 503
        assert upsert.get("/health/liveness").status == 200
        assert "self_service_agent_database_up 0.0" in upsert.get("/metrics").body.decode()
    finally:
        postgres.start()
    upsert.wait_until("/health/readiness")
    assert Event.of(upsert.post_event(created)).attribute("id") == "r1.session"
    assert "self_service_agent_database_up 1.0" in upsert.get("/metrics").body.decode()
    assert not [event for event in upsert.log() if event["level"] == "ERROR"]
