"""response-dispatch to Slack, on real PostgreSQL, against a Slack that checks every call: sign, answer, crashes."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from urllib3.exceptions import HTTPError

from tests.parts.events import PREFIX, event
from tests.parts.functions import Event, Function
from tests.parts.net import problem
from tests.parts.postgres import Postgres
from tests.parts.samples import request_data
from tests.parts.slack import CHANNEL, DIRECT, PERSON, TS
from tests.slack.fake import TOKEN, FakeSlack
from tests.slack.rules import ADVISED

THINKING = ":hourglass_flowing_sand: _Thinking…_"


@pytest.fixture(scope="module")
def workspace() -> Iterator[FakeSlack]:
    fake = FakeSlack()
    yield fake
    fake.close()


def settings(postgres: Postgres, fake: FakeSlack, **more: str) -> dict[str, str]:
    return {**postgres.environment(), "SLACK_BOT_TOKEN": TOKEN, "SLACK_API_URL": fake.url, **more}


@pytest.fixture(scope="module")
def dispatch(postgres_server: Postgres, workspace: FakeSlack) -> Iterator[Function]:
    function = Function("response-dispatch", settings(postgres_server, workspace))
    yield function
    function.close()


@pytest.fixture
def slack(workspace: FakeSlack, postgres: Postgres) -> Iterator[FakeSlack]:
    """The workspace with the question in it; afterwards every call was one that a careful app makes."""
    workspace.clear()
    workspace.know(CHANNEL, TS, PERSON)
    yield workspace
    assert workspace.faults == []


class Request:
    """A request from Slack itself, in the database."""

    def __init__(self, postgres: Postgres, **changes: Any) -> None:
        self._postgres = postgres
        self.data = request_data(
            request_id="r1",
            integration_type="slack",
            channel_id=CHANNEL,
            thread_id=TS,
            metadata={"slack_event": "mention"},
            accepted_at="2023-11-14T22:13:20Z",
            **changes,
        )
        postgres.query(
            "INSERT INTO request_logs (request_id, integration_type, user_id, request_content, normalized_request,"
            " cloudevent_id, accepted_at) VALUES ('r1', 'slack', 'ann', 'q', %s, 'r1', now())",
            json.dumps(self.data),
        )

    def recorded(self, event_type: str = "session.created") -> Event:
        """session.created or session.updated of it."""
        session = {"session_id": "5f2f7f1e-7a51-4c52-8f0a-6d6f2b3f9a10", "opened": True}
        return event(PREFIX + event_type, "r1.session", {"session": session, "request": self.data}, requestid="r1")

    def finish(self, content: str | None = "the answer") -> Event:
        """Answer it (or fail, for None); its response-ready event."""
        self._postgres.query(
            "UPDATE request_logs SET status = %s, response_content = %s, error_code = %s, error_message = %s,"
            " completed_at = clock_timestamp() WHERE request_id = 'r1'",
            "completed" if content is not None else "failed",
            content,
            None if content is not None else "model_not_found",
            None if content is not None else "The assistant is not set up for this.",
        )
        data = {
            "request_id": "r1",
            "session_id": None,
            "integration_type": "slack",
            "user_id": "ann",
            "status": "completed",
            "agent_id": None,
            "content": "what the event says",
            "error": None,
            "completed_at": "2026-01-01T00:00:01Z",
        }
        return event(PREFIX + "agent.response-ready", "r1.response", data, requestid="r1")


def texts(fake: FakeSlack, channel: str = CHANNEL, thread: str | None = TS) -> list[str]:
    return [one["text"] for one in fake.ours(channel, thread)]


def taken(function: Function, *events: Event) -> None:
    for one in events:
        answer = function.post_event(one)
        assert (answer.status, answer.body) == (204, b"")


class TestSign:
    def test_it_stands_in_the_thread_and_becomes_the_answer(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack
    ) -> None:
        request = Request(postgres)
        taken(dispatch, request.recorded())
        [sign] = slack.ours(CHANNEL, TS)
        assert sign["text"] == THINKING

        taken(dispatch, request.finish())

        [answer] = slack.ours(CHANNEL, TS)
        assert (answer["text"], answer["ts"]) == ("the answer", sign["ts"])
        assert answer["metadata"]["event_payload"] == {"request_id": "r1", "part": 0}
        assert slack.called() == ["chat.postMessage", "chat.update"]
        assert postgres.query("SELECT delivery_reference FROM request_logs") == [(sign["ts"],)]

    def test_a_failure_takes_its_place_as_a_sentence(self, dispatch: Function, postgres: Postgres, slack: FakeSlack) -> None:
        request = Request(postgres)
        taken(dispatch, request.recorded("session.updated"))
        taken(dispatch, request.finish(None))
        assert texts(slack) == ["The assistant is not set up for this."]

    def test_a_failure_that_may_pass_can_be_asked_again_by_a_button(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack
    ) -> None:
        request = Request(postgres)
        taken(dispatch, request.recorded())
        ready = request.finish(None)
        postgres.query("UPDATE request_logs SET error_code = 'not_processed'")
        taken(dispatch, ready)
        [message] = slack.ours(CHANNEL, TS)
        sentence, actions = message["blocks"]
        assert sentence["text"]["text"] == message["text"] == "The assistant is not set up for this."
        [button] = actions["elements"]
        assert (button["text"]["text"], button["value"]) == ("Ask again", request.data["content"])

    def test_a_failure_for_good_has_no_button(self, dispatch: Function, postgres: Postgres, slack: FakeSlack) -> None:
        taken(dispatch, Request(postgres).finish(None))
        assert "blocks" not in slack.ours(CHANNEL, TS)[0]

    def test_of_a_long_answer_the_first_part_takes_its_place(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack
    ) -> None:
        request = Request(postgres)
        taken(dispatch, request.recorded())
        taken(dispatch, request.finish("\n\n".join(f"Paragraph {n}. " + "word " * 150 for n in range(15))))
        assert slack.called() == ["chat.postMessage", "chat.update", "chat.postMessage", "chat.postMessage"]
        parts = texts(slack)
        assert [text.split(".")[0].startswith("Paragraph") for text in parts] == [True] * 3
        assert "Paragraph 0" in parts[0]

    def test_in_direct_messages_it_is_outside_threads(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack
    ) -> None:
        request = Request(postgres)
        postgres.query("UPDATE request_logs SET normalized_request = normalized_request || %s",
                       json.dumps({"channel_id": DIRECT, "thread_id": None}))  # fmt: skip
        taken(dispatch, request.recorded())
        assert texts(slack, DIRECT, None) == [THINKING]
        taken(dispatch, request.finish())
        assert texts(slack, DIRECT, None) == ["the answer"]

    def test_a_commands_is_in_the_direct_messages_with_its_person(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack
    ) -> None:
        request = Request(postgres)
        postgres.query("UPDATE request_logs SET normalized_request = normalized_request || %s",
                       json.dumps({"channel_id": PERSON, "thread_id": None}))  # fmt: skip
        taken(dispatch, request.recorded())
        taken(dispatch, request.finish())
        assert texts(slack, DIRECT, None) == ["the answer"]
        assert slack.called() == ["conversations.open", "chat.postMessage", "chat.update"]

    def test_none_is_posted_when_the_answer_is_there_first(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack
    ) -> None:
        request = Request(postgres)
        taken(dispatch, request.finish(), request.recorded())
        assert texts(slack) == ["the answer"]
        assert slack.called() == ["chat.postMessage"]

    def test_twenty_events_at_once_post_one(self, dispatch: Function, postgres: Postgres, slack: FakeSlack) -> None:
        recorded = Request(postgres).recorded()
        with ThreadPoolExecutor(20) as pool:
            statuses = {answer.status for answer in pool.map(dispatch.post_event, [recorded] * 20)}
        assert statuses == {204}
        assert texts(slack) == [THINKING]

    def test_signs_and_answers_that_race_leave_one_message(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack
    ) -> None:
        request = Request(postgres)
        recorded = request.recorded()
        with ThreadPoolExecutor(12) as pool:
            signs = [pool.submit(dispatch.post_event, recorded) for _ in range(6)]
            ready = request.finish()
            statuses = [pool.submit(dispatch.post_event, ready) for _ in range(6)]
            assert {one.result().status for one in signs} == {204}
            assert {one.result().status for one in statuses} <= {204, 409}
        taken(dispatch, ready)
        assert texts(slack) == ["the answer"]

    def test_the_answer_waits_while_it_is_being_posted(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack
    ) -> None:
        request = Request(postgres)
        ready = request.finish()
        postgres.query("UPDATE request_logs SET slack_placeholder_until = now() + interval '1 minute',"
                       " slack_placeholder_attempts = 1")  # fmt: skip
        problem(dispatch.post_event(ready), 409)
        assert slack.called() == []

    @pytest.mark.parametrize("change", [{"integration_type": "web"}, {"metadata": {"slack_user_id": "U1"}}])
    def test_a_request_that_did_not_come_from_slack_itself_gets_none(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack, change: dict[str, Any]
    ) -> None:
        request = Request(postgres)
        request.data.update(change)
        taken(dispatch, request.recorded())
        assert slack.called() == []

    def test_a_forged_event_posts_nothing_and_the_recorded_place_counts(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack
    ) -> None:
        request = Request(postgres)
        request.data.update(request_id="r9")
        taken(dispatch, request.recorded())
        assert slack.called() == []
        request.data.update(request_id="r1", channel_id="C0ELSEWHERE")
        taken(dispatch, request.recorded())
        assert texts(slack) == [THINKING]

    @pytest.mark.parametrize("failure", [{"error": "not_in_channel"}, {"status": 429, "headers": {"retry-after": "30"}},
                                         {"status": 500}])  # fmt: skip
    def test_when_slack_does_not_take_it_the_answer_comes_all_the_same(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack, failure: dict[str, Any]
    ) -> None:
        request = Request(postgres)
        slack.script("chat.postMessage", **failure)
        taken(dispatch, request.recorded())
        taken(dispatch, request.finish())
        assert texts(slack) == ["the answer"]

    def test_when_it_was_deleted_the_answer_is_a_new_message(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack
    ) -> None:
        request = Request(postgres)
        taken(dispatch, request.recorded())
        slack.script("chat.update", error="message_not_found")
        taken(dispatch, request.finish())
        assert texts(slack) == [THINKING, "the answer"]

    def test_it_can_be_left_out(self, postgres: Postgres, slack: FakeSlack, serve: Callable[..., Function]) -> None:
        quiet = serve("response-dispatch", settings(postgres, slack, SLACK_THINKING="false"))
        request = Request(postgres)
        taken(quiet, request.recorded())
        taken(quiet, request.finish())
        assert slack.called() == ["chat.postMessage"]


class TestCrash:
    """A process that dies between Slack's acceptance and the record of it (P5)."""

    def test_after_a_sign_that_was_posted_the_answer_finds_it(
        self, postgres: Postgres, slack: FakeSlack, dispatch: Function, serve: Callable[..., Function]
    ) -> None:
        dying = serve("response-dispatch", settings(postgres, slack, FAULTS="placeholder.after=kill"))
        request = Request(postgres)
        recorded = request.recorded()
        dies(dying, recorded)
        [sign] = slack.ours(CHANNEL, TS)
        postgres.query("UPDATE request_logs SET slack_placeholder_until = now()")  # its lease has run out

        taken(dispatch, request.finish(), recorded)

        [answer] = slack.ours(CHANNEL, TS)
        assert (answer["text"], answer["ts"]) == ("the answer", sign["ts"])

    def test_after_a_sign_that_was_posted_the_same_event_posts_no_second(
        self, postgres: Postgres, slack: FakeSlack, dispatch: Function, serve: Callable[..., Function]
    ) -> None:
        dying = serve("response-dispatch", settings(postgres, slack, FAULTS="placeholder.after=kill"))
        request = Request(postgres)
        recorded = request.recorded()
        dies(dying, recorded)
        postgres.query("UPDATE request_logs SET slack_placeholder_until = now()")

        taken(dispatch, recorded)
        assert texts(slack) == [THINKING]
        taken(dispatch, request.finish())
        assert texts(slack) == ["the answer"]

    def test_after_half_an_answer_the_rest_is_sent_and_nothing_twice(
        self, postgres: Postgres, slack: FakeSlack, dispatch: Function
    ) -> None:
        request = Request(postgres)
        taken(dispatch, request.recorded())
        slack.script("chat.postMessage", error="lost")
        long = "\n\n".join(f"Paragraph {n}. " + "word " * 150 for n in range(15))
        ready = request.finish(long)
        problem(dispatch.post_event(ready), 503)  # the first part is there, the second's answer was lost
        assert len(texts(slack)) == 2

        taken(dispatch, ready)

        parts = texts(slack)
        assert [f"Paragraph {n}." in "".join(parts) for n in range(15)] == [True] * 15
        assert "".join(parts).count("Paragraph") == 15
        assert slack.called().count("conversations.replies") == 1

    def test_in_a_long_thread_it_is_found_too(self, postgres: Postgres, slack: FakeSlack, dispatch: Function) -> None:
        """Regression: only the oldest 200 messages of a thread were looked at."""
        request = Request(postgres)
        for n in range(450):
            slack.say(CHANNEL, "U0BEN", f"talk {n}", TS)
        slack.script("chat.postMessage", error="lost")
        ready = request.finish()
        problem(dispatch.post_event(ready), 503)
        taken(dispatch, ready)
        assert texts(slack) == ["the answer"]

    def test_in_direct_messages_it_is_found_too(self, postgres: Postgres, slack: FakeSlack, dispatch: Function) -> None:
        request = Request(postgres)
        postgres.query("UPDATE request_logs SET normalized_request = normalized_request || %s",
                       json.dumps({"channel_id": PERSON, "thread_id": None}))  # fmt: skip
        slack.script("chat.postMessage", error="lost")
        ready = request.finish()
        problem(dispatch.post_event(ready), 503)
        taken(dispatch, ready)
        assert texts(slack, DIRECT, None) == ["the answer"]

    @pytest.mark.parametrize("code", ["missing_scope", "not_allowed_token_type", "not_in_channel"])
    def test_where_the_app_may_not_read_the_answer_is_posted_all_the_same(
        self, postgres: Postgres, slack: FakeSlack, dispatch: Function, code: str
    ) -> None:
        slack.script("chat.postMessage", status=500)
        slack.script("conversations.replies", error=code)
        ready = Request(postgres).finish()
        problem(dispatch.post_event(ready), 503)
        taken(dispatch, ready)
        assert texts(slack) == ["the answer"]


def dies(function: Function, delivered: Event) -> None:
    """Deliver an event to a function that is killed by it."""
    thread = threading.Thread(target=lambda: _ignore_the_end(function, delivered))
    thread.start()
    assert function.process.wait(20) == -signal.SIGKILL
    thread.join(20)


def _ignore_the_end(function: Function, delivered: Event) -> None:
    with pytest.raises(HTTPError):
        function.post_event(delivered)


class TestMessage:
    def test_markdown_becomes_mrkdwn_and_nobody_is_called(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack
    ) -> None:
        request = Request(postgres)
        taken(dispatch, request.finish("# Done\n**Yes**, [here](https://example.com). <!channel> <@U0BEN> [x](!here) a < b"))
        assert texts(slack) == ["*Done*\n\n*Yes*, <https://example.com|here>. &lt;!channel&gt; &lt;@U0BEN&gt; x a &lt; b"]

    def test_a_code_block_that_is_cut_is_closed_and_reopened(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack
    ) -> None:
        code = "\n".join(f"line {n}: if a < b && c" for n in range(400))
        taken(dispatch, Request(postgres).finish(f"Here:\n\n```python\n{code}\n```\n\nThat is all."))
        parts = texts(slack)
        assert len(parts) > 2
        assert all(len(text) <= ADVISED for text in parts)
        lines = [line for text in parts for line in text.split("\n") if line.startswith("line ")]
        assert lines == code.replace("&", "&amp;").replace("<", "&lt;").split("\n")

    def test_an_empty_answer_is_a_sentence(self, dispatch: Function, postgres: Postgres, slack: FakeSlack) -> None:
        taken(dispatch, Request(postgres).finish(" \n"))
        assert texts(slack) == ["The assistant has nothing to say to this."]

    def test_a_rate_limit_is_passed_on_to_the_broker(
        self, dispatch: Function, postgres: Postgres, slack: FakeSlack, serve: Callable[..., Function]
    ) -> None:
        mine = serve("response-dispatch", settings(postgres, slack))  # it will keep the channel's pause in mind
        ready = Request(postgres).finish()
        slack.script("chat.postMessage", status=429, error="ratelimited", headers={"retry-after": "7"})
        answer = mine.post_event(ready)
        problem(answer, 503)
        assert answer.headers["retry-after"] == "7"
        taken(dispatch, ready)
        assert texts(slack) == ["the answer"]

    @pytest.mark.parametrize("code", ["channel_not_found", "not_in_channel", "is_archived", "restricted_action"])
    def test_a_refusal_is_not_tried_again(self, dispatch: Function, postgres: Postgres, slack: FakeSlack, code: str) -> None:
        slack.script("chat.postMessage", error=code)
        document = problem(dispatch.post_event(Request(postgres).finish()), 422)
        assert code in document["detail"]
