"""response-dispatch to a Slack that checks every call, on real PostgreSQL: the text, and what Slack refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.functional.slack_thread.support import Request, settings, taken, texts
from tests.parts.functions import Function
from tests.parts.net import problem
from tests.parts.postgres import Postgres
from tests.slack.fake import FakeSlack
from tests.slack.rules import ADVISED


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
