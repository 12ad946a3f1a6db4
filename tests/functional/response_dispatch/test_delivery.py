"""response-dispatch over real HTTP and real PostgreSQL; Slack's API and a tool's webhook are stood in for."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

import pytest
from standardwebhooks.webhooks import Webhook

from tests.functional.response_dispatch.support import SECRET, finished, hook_at, response_ready, state
from tests.parts.functions import Function
from tests.parts.net import problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder


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
