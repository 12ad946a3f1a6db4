"""response-dispatch to a Slack that checks every call, on real PostgreSQL: the thinking sign and the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.functional.slack_thread.support import THINKING, Request, settings, taken, texts
from tests.parts.functions import Function
from tests.parts.net import problem
from tests.parts.postgres import Postgres
from tests.parts.slack import CHANNEL, DIRECT, PERSON, TS
from tests.slack.fake import FakeSlack


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
