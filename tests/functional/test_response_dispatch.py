"""response-dispatch over real HTTP and real PostgreSQL; Slack's API and a tool's webhook are stood in for."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

import pytest
from standardwebhooks.webhooks import Webhook

from tests.parts.events import PREFIX, event
from tests.parts.functions import Event, Function
from tests.parts.net import problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes ok!").decode()  # pragma: allowlist secret


@pytest.fixture(scope="module")
def dispatch(postgres_server: Postgres, recorder: Recorder) -> Iterator[Function]:
    function = Function(
        "response-dispatch",
        {
            **postgres_server.environment(),
            "SLACK_BOT_TOKEN": "xoxb-test",
            "SLACK_API_URL": recorder.url + "slack/",
            "WEBHOOK_SECRETS": json.dumps({"snow": SECRET}),
            "WEBHOOK_URLS_ALLOWED": recorder.url,
        },
    )
    yield function
    function.close()


@pytest.fixture
def outside(recorder: Recorder, postgres: Postgres) -> Recorder:
    """What is outside: Slack's API says ok, the tool has a webhook."""
    recorder.clear()
    recorder.status = 200
    recorder.answer_headers = {"content-type": "application/json"}
    recorder.answer_body = b'{"ok": true, "ts": "1700000000.000100", "channel": "C1"}'
    postgres.query(
        "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', 'snow', %s)",
        json.dumps({"webhook_url": recorder.url + "hook", "secret_ref": "snow"}),
    )
    return recorder


def finished(postgres: Postgres, integration: str, *, content: str | None = "the answer", **request: Any) -> Event:
    """A finished request in the database, and its response-ready event (which says something else)."""
    normalized = {
        "conversation_key": "c1",
        "accepted_at": "2026-01-01T00:00:00Z",
        "channel_id": "C1",
        "thread_id": "1700000000.000001",
        "context": {"tool_context": {"ticket_id": "INC1"}},
        **request,
    }
    status = "completed" if content is not None else "failed"
    postgres.query(
        "INSERT INTO request_logs (request_id, integration_type, integration_key, user_id, request_content,"
        " normalized_request, status, agent_id, response_content, error_code, error_message, cloudevent_id,"
        " accepted_at, completed_at)"
        " VALUES ('r1', %s, %s, 'ann', 'q', %s, %s, 'routing-agent', %s, %s, %s, 'r1', now(), now())",
        integration,
        "snow" if integration == "tool" else "",
        json.dumps(normalized),
        status,
        content,
        None if content is not None else "model_not_found",
        None if content is not None else "The assistant is not set up for this.",
    )
    return response_ready("r1", integration, status)


def response_ready(request_id: str, integration: str, status: str = "completed") -> Event:
    data = {
        "request_id": request_id,
        "session_id": None,
        "integration_type": integration,
        "user_id": "ann",
        "status": status,
        "agent_id": "routing-agent",
        "content": "what the event says",
        "error": None,
        "completed_at": "2026-01-01T00:00:01Z",
    }
    return event(PREFIX + "agent.response-ready", f"{request_id}.response", data, requestid=request_id)


def hook_at(postgres: Postgres, url: str) -> None:
    """The tool's webhook is somewhere else."""
    postgres.query(
        "UPDATE integration_configs SET delivery = %s WHERE integration_key = 'snow'",
        json.dumps({"webhook_url": url, "secret_ref": "snow"}),
    )


def state(postgres: Postgres) -> tuple[Any, ...]:
    return postgres.query("SELECT delivery_attempts, delivered_at IS NOT NULL, delivery_reference FROM request_logs")[0]


@pytest.mark.parametrize("integration", ["web", "cli"])
def test_a_browser_and_a_terminal_are_sent_nothing(
    dispatch: Function, postgres: Postgres, outside: Recorder, integration: str
) -> None:
    answer = dispatch.post_event(finished(postgres, integration))
    assert (answer.status, answer.body) == (204, b"")
    assert outside.events == []


def test_the_committed_answer_goes_to_the_slack_thread_with_its_request_id(
    dispatch: Function, postgres: Postgres, outside: Recorder
) -> None:
    answer = dispatch.post_event(finished(postgres, "slack"))
    assert (answer.status, answer.body) == (204, b"")
    [sent] = outside.events
    assert outside.paths == ["/slack/chat.postMessage"]
    assert sent.headers["authorization"] == "Bearer xoxb-test"
    form = (
        json.loads(sent.body) if sent.body.startswith(b"{") else {k: v[0] for k, v in parse_qs(sent.body.decode()).items()}
    )
    assert form["channel"] == "C1"
    assert form["thread_ts"] == "1700000000.000001"
    assert form["text"] == "the answer"
    metadata = form["metadata"] if isinstance(form["metadata"], dict) else json.loads(form["metadata"])
    assert metadata["event_payload"]["request_id"] == "r1"
    assert state(postgres) == (1, True, "1700000000.000100")


def test_a_long_answer_is_split_and_nothing_of_it_lost(dispatch: Function, postgres: Postgres, outside: Recorder) -> None:
    words = " ".join(f"word{number}" for number in range(2000))
    dispatch.post_event(finished(postgres, "slack", content=words))
    texts = []
    for sent in outside.events:
        form = (
            json.loads(sent.body)
            if sent.body.startswith(b"{")
            else {k: v[0] for k, v in parse_qs(sent.body.decode()).items()}
        )
        texts.append(form["text"])
    assert len(texts) > 1
    assert all(len(text) <= 4000 for text in texts)
    assert " ".join(texts).split() == words.split()


def test_a_tools_webhook_is_signed_and_carries_its_ticket_back(
    dispatch: Function, postgres: Postgres, outside: Recorder
) -> None:
    assert dispatch.post_event(finished(postgres, "tool")).status == 204
    [sent] = outside.events
    assert outside.paths == ["/hook"]
    body = Webhook(SECRET).verify(sent.body, sent.headers)
    assert sent.headers["webhook-id"] == "r1.response"
    assert body["data"]["request_id"] == "r1"
    assert body["data"]["content"] == "the answer"
    assert body["data"]["tool_context"] == {"ticket_id": "INC1"}


@pytest.mark.parametrize("integration", ["slack", "tool"])
def test_an_event_that_comes_twenty_times_at_once_is_sent_once(
    dispatch: Function, postgres: Postgres, outside: Recorder, integration: str
) -> None:
    ready = finished(postgres, integration)
    with ThreadPoolExecutor(20) as pool:
        statuses = {answer.status for answer in pool.map(dispatch.post_event, [ready] * 20)}
    assert statuses <= {204, 409}
    assert len(outside.events) == 1
    assert dispatch.post_event(ready).status == 204
    assert len(outside.events) == 1


@pytest.mark.parametrize("integration", ["slack", "tool"])
def test_a_failure_is_told_in_a_sentence(
    dispatch: Function, postgres: Postgres, outside: Recorder, integration: str
) -> None:
    dispatch.post_event(finished(postgres, integration, content=None))
    assert b"The assistant is not set up for this." in outside.events[0].body.replace(b"+", b" ")


@pytest.mark.parametrize("integration", ["slack", "tool"])
def test_a_channel_that_is_away_is_tried_again_with_the_same_key(
    dispatch: Function, postgres: Postgres, outside: Recorder, integration: str
) -> None:
    ready = finished(postgres, integration)
    outside.status, outside.answer_headers = 503, {"content-type": "application/json"}
    problem(dispatch.post_event(ready), 503)
    outside.status = 200
    assert dispatch.post_event(ready).status == 204
    assert state(postgres)[:2] == (2, True)
    keys = {sent.headers.get("webhook-id") for sent in outside.events}
    assert len(keys) == 1


@pytest.mark.parametrize("integration", ["slack", "tool"])
def test_retry_after_is_passed_on_and_the_place_is_left_alone_meanwhile(
    dispatch: Function, postgres: Postgres, outside: Recorder, integration: str
) -> None:
    ready = finished(postgres, integration, channel_id=f"C-{uuid.uuid4()}")
    if integration == "tool":
        hook_at(postgres, f"{outside.url}hook/{uuid.uuid4()}")
    outside.status, outside.answer_headers = 429, {"retry-after": "7", "content-type": "application/json"}
    answer = dispatch.post_event(ready)
    problem(answer, 503)
    assert answer.headers["retry-after"] == "7"
    sent = len(outside.events)
    again = dispatch.post_event(ready)
    problem(again, 503)
    assert 1 <= int(again.headers["retry-after"]) <= 7
    assert len(outside.events) == sent
    assert state(postgres)[:2] == (1, False)


def test_slack_is_asked_before_a_repeat(dispatch: Function, postgres: Postgres, outside: Recorder) -> None:
    """Regression for P5: sent, then the process died before it could say so."""
    ready = finished(postgres, "slack")
    postgres.query("UPDATE request_logs SET delivery_attempts = 1")
    posted = {"ts": "1.1", "metadata": {"event_type": "x", "event_payload": {"request_id": "r1", "part": 0}}}
    outside.answer_body = json.dumps({"ok": True, "messages": [posted]}).encode()
    assert dispatch.post_event(ready).status == 204
    assert outside.paths == ["/slack/conversations.replies"]
    assert state(postgres) == (2, True, "1.1")


@pytest.mark.parametrize(
    ("integration", "status", "body"),
    [("slack", 200, b'{"ok": false, "error": "channel_not_found"}'), ("tool", 410, b""), ("tool", 302, b"")],
)
def test_what_a_channel_refuses_for_good_is_not_tried_again(
    dispatch: Function, postgres: Postgres, outside: Recorder, integration: str, status: int, body: bytes
) -> None:
    outside.status, outside.answer_body = status, body
    problem(dispatch.post_event(finished(postgres, integration)), 422)
    assert len(outside.events) == 1
    assert postgres.query("SELECT delivery_error IS NOT NULL, undeliverable_at IS NOT NULL FROM request_logs") == [
        (True, True)
    ]


def test_a_webhook_that_says_it_is_gone_is_switched_off_and_said_so(
    dispatch: Function, postgres: Postgres, outside: Recorder
) -> None:
    outside.status = 410
    lines = len(dispatch.log())
    first = finished(postgres, "tool")
    problem(dispatch.post_event(first), 422)
    [(off, reason)] = postgres.query(
        "SELECT delivery ? 'disabled_at', delivery ->> 'disabled_reason' FROM integration_configs"
        " WHERE integration_key = 'snow'"
    )
    assert (off, reason) == (True, "The webhook answered 410.")
    assert postgres.query("SELECT delivery_error FROM request_logs") == [("The webhook answered 410.",)]
    [said] = [line for line in dispatch.log()[lines:] if line["message"] == "a webhook is gone and was switched off"]
    assert (said["level"], said["tool"]) == ("WARNING", "snow")
    assert "self_service_agent_webhooks_disabled_total" in dispatch.get("/metrics").body.decode()

    # A later answer: nothing is sent, nothing is tried again, and that is recorded.
    outside.status = 200
    postgres.query("UPDATE request_logs SET request_id = 'r0'")
    assert dispatch.post_event(finished(postgres, "tool")).status == 204
    assert len(outside.events) == 1
    [(error, attempts, given_up)] = postgres.query(
        "SELECT delivery_error, delivery_attempts, undeliverable_at IS NOT NULL FROM request_logs WHERE request_id = 'r1'"
    )
    assert error.startswith("Not sent: the webhook is switched off since 20")
    assert (attempts, given_up) == (0, True)


def test_a_webhook_that_was_moved_meanwhile_is_not_switched_off(
    dispatch: Function, postgres: Postgres, outside: Recorder
) -> None:
    postgres.query("SELECT disable_webhook('tool', 'snow', 'https://the-old-address.example/', 'gone')")
    assert dispatch.post_event(finished(postgres, "tool")).status == 204
    assert len(outside.events) == 1


def test_the_webhook_of_all_tools_is_switched_off_for_all(dispatch: Function, postgres: Postgres, outside: Recorder) -> None:
    postgres.query("DELETE FROM integration_configs WHERE integration_key = 'snow'")
    postgres.query(
        "UPDATE integration_configs SET delivery = %s WHERE integration_type = 'tool'",
        json.dumps({"webhook_url": outside.url + "hook", "secret_ref": "snow"}),
    )
    outside.status = 410
    problem(dispatch.post_event(finished(postgres, "tool")), 422)
    found = postgres.query("SELECT integration_type FROM integration_configs WHERE delivery ? 'disabled_at'")
    assert found == [("tool",)]


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/x", "https://127.0.0.1/x", "https://[::1]/x", "https://169.254.169.254/x", "ftp://x/", "no url"],
)
def test_a_webhook_to_a_private_address_is_refused(
    dispatch: Function, postgres: Postgres, outside: Recorder, url: str
) -> None:
    postgres.query(
        "UPDATE integration_configs SET delivery = %s WHERE integration_key = 'snow'",
        json.dumps({"webhook_url": url, "secret_ref": "snow"}),
    )
    problem(dispatch.post_event(finished(postgres, "tool")), 422)
    assert outside.events == []


def test_a_forged_event_of_an_unknown_or_unfinished_request_sends_nothing(
    dispatch: Function, postgres: Postgres, outside: Recorder
) -> None:
    problem(dispatch.post_event(response_ready("r9", "slack")), 400)
    ready = finished(postgres, "slack")
    postgres.query("UPDATE request_logs SET status = 'queued', completed_at = NULL")
    problem(dispatch.post_event(ready), 400)
    assert outside.events == []


def test_no_log_line_holds_an_answer_or_a_secret(dispatch: Function, postgres: Postgres, outside: Recorder) -> None:
    dispatch.post_event(finished(postgres, "slack", content="a-very-private-answer"))
    output = dispatch.output()
    assert "a-very-private-answer" not in output
    assert "xoxb-test" not in output
    assert SECRET not in output
