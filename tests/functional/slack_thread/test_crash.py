"""response-dispatch to a Slack that checks every call, on real PostgreSQL: after a crash nothing stands there twice."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable

import pytest
from urllib3.exceptions import HTTPError

from tests.functional.slack_thread.support import THINKING, Request, settings, taken, texts
from tests.parts.functions import Event, Function
from tests.parts.net import problem
from tests.parts.postgres import Postgres
from tests.parts.slack import CHANNEL, DIRECT, PERSON, TS
from tests.slack.fake import FakeSlack


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
