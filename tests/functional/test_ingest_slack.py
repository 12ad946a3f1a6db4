"""ingest-slack as Slack meets it, over real HTTP, with real signatures: what becomes a request, what never does."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.parts.functions import Event, Function
from tests.parts.net import Answer, free_port, problem
from tests.parts.recorder import Recorder
from tests.parts.samples import settings_of_ingest
from tests.parts.slack import (
    BOT,
    CHANNEL,
    DIRECT,
    FORM,
    PERSON,
    TEAM,
    TS,
    Slack,
    but,
    callback,
    command,
    direct,
    mention,
    message,
    press,
)

OTHER = "U0BEN"
PARENT = "1699999999.000001"
LAPTOP = "I want to refresh my laptop"


@pytest.fixture(scope="module")
def function(recorder: Recorder) -> Iterator[Function]:
    running = Function("ingest-slack", settings_of_ingest(recorder.url))
    yield running
    running.close()


@pytest.fixture
def slack(function: Function, recorder: Recorder) -> Slack:
    recorder.clear()
    return Slack(function.url)


def heard(answer: Answer) -> None:
    """Slack is content: 200, and nothing that it would show."""
    assert (answer.status, answer.body) == (200, b"")


def asked(recorder: Recorder) -> dict[str, Any]:
    """The data of the one request that was published."""
    [event] = recorder.events
    assert event.attribute("type") == "com.self-service-agent.request.created"
    data: dict[str, Any] = event.data()
    assert event.attribute("requestid") == data["request_id"]
    assert event.attribute("integration") == "slack"
    return data


class TestRequests:
    def test_a_mention_asks_in_the_thread_of_its_message(self, slack: Slack, recorder: Recorder) -> None:
        heard(slack.send(mention()))
        data = asked(recorder)
        assert data["content"] == LAPTOP
        assert data["request_type"] == "mention"
        assert data["user_id"] == f"slack:{TEAM}:{PERSON}"
        assert (data["channel_id"], data["thread_id"]) == (CHANNEL, TS)
        assert data["metadata"] == {"slack_event": "mention", "slack_user_id": PERSON, "slack_team_id": TEAM}

    def test_a_mention_in_a_thread_asks_in_that_thread(self, slack: Slack, recorder: Recorder) -> None:
        heard(slack.send(mention(thread_ts=PARENT)))
        assert asked(recorder)["thread_id"] == PARENT

    def test_the_follow_up_in_the_thread_is_the_same_conversation(self, slack: Slack, recorder: Recorder) -> None:
        slack.send(mention())
        slack.send(mention(ts="1700000009.000001", thread_ts=TS))
        slack.send(message("and the old one?", ts="1700000010.000001", thread_ts=TS, parent_user_id=PERSON))
        first, second, third = (event.data() for event in recorder.events)
        assert first["conversation_key"] == second["conversation_key"] == third["conversation_key"]
        assert len({first["request_id"], second["request_id"], third["request_id"]}) == 3
        assert third["request_type"] == "thread_reply"

    def test_another_person_in_the_thread_is_another_conversation(self, slack: Slack, recorder: Recorder) -> None:
        slack.send(mention())
        slack.send(mention(user=OTHER, ts="1700000009.000001", thread_ts=TS))
        first, second = (event.data() for event in recorder.events)
        assert first["conversation_key"] != second["conversation_key"]
        assert first["shared_key"] == second["shared_key"]

    def test_a_relay_with_the_documents_body_joins_the_conversation_of_the_thread(
        self, slack: Slack, recorder: Recorder
    ) -> None:
        slack.send(mention())
        body = {"user_id": "ann", "content": "and?", "channel_id": CHANNEL, "thread_id": TS,
                "slack_user_id": PERSON, "slack_team_id": TEAM}  # fmt: skip
        assert slack.send(body).status == 202
        first, second = (event.data() for event in recorder.events)
        assert first["conversation_key"] == second["conversation_key"]

    def test_a_direct_message_asks_without_a_thread(self, slack: Slack, recorder: Recorder) -> None:
        heard(slack.send(direct()))
        data = asked(recorder)
        assert (data["content"], data["request_type"]) == (LAPTOP, "message")
        assert (data["channel_id"], data["thread_id"]) == (DIRECT, None)

    def test_a_thread_in_the_direct_messages_is_a_conversation_of_its_own(self, slack: Slack, recorder: Recorder) -> None:
        slack.send(direct())
        slack.send(direct(ts="1700000009.000001", thread_ts=PARENT))
        plain, threaded = (event.data() for event in recorder.events)
        assert threaded["thread_id"] == PARENT
        assert plain["conversation_key"] != threaded["conversation_key"]

    def test_a_reply_in_a_thread_that_we_began_is_to_us(self, slack: Slack, recorder: Recorder) -> None:
        heard(slack.send(message(ts="1700000009.000001", thread_ts=PARENT, parent_user_id=BOT)))
        assert asked(recorder)["request_type"] == "message"

    def test_a_reply_that_is_also_shown_in_the_channel_counts(self, slack: Slack, recorder: Recorder) -> None:
        heard(slack.send(message(subtype="thread_broadcast", ts="1700000009.000001", thread_ts=PARENT)))
        assert asked(recorder)["request_type"] == "thread_reply"

    def test_words_with_a_file_count(self, slack: Slack, recorder: Recorder) -> None:
        heard(slack.send(direct("what is this?", subtype="file_share", files=[{"id": "F1"}])))
        assert asked(recorder)["content"] == "what is this?"

    def test_a_command_is_answered_in_direct_messages_as_the_same_conversation(
        self, slack: Slack, recorder: Recorder
    ) -> None:
        answer = slack.run(command())
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "response_type": "ephemeral",
            "text": "I am on it. The answer comes as a direct message from me.",
        }
        data = asked(recorder)
        assert (data["content"], data["channel_id"], data["thread_id"]) == (LAPTOP, PERSON, None)
        recorder.clear()
        slack.send(direct())
        assert asked(recorder)["conversation_key"] == data["conversation_key"]

    def test_a_button_asks_its_value_in_the_thread_of_its_message(self, slack: Slack, recorder: Recorder) -> None:
        heard(slack.use(press()))
        data = asked(recorder)
        assert (data["content"], data["request_type"]) == (LAPTOP, "button")
        assert data["user_id"] == f"slack:{TEAM}:{PERSON}"
        assert (data["channel_id"], data["thread_id"]) == (CHANNEL, "1700000050.000001")

    def test_a_button_in_a_thread_stays_there(self, slack: Slack, recorder: Recorder) -> None:
        slack.send(mention())
        where = {"type": "message", "message_ts": "1700000050.000001", "channel_id": CHANNEL, "thread_ts": TS}
        heard(slack.use(press(container=where)))
        first, pressed = (event.data() for event in recorder.events)
        assert pressed["thread_id"] == TS
        assert pressed["conversation_key"] == first["conversation_key"]

    def test_no_secret_of_slacks_goes_on(self, slack: Slack, function: Function, recorder: Recorder) -> None:
        slack.run(command())
        slack.use(press())
        for event in recorder.events:
            assert b"secret-path" not in event.body
            assert b"verification-token" not in event.body
        assert "secret-path" not in function.output()
        assert LAPTOP not in function.output()

    def test_a_mention_without_words_asks_for_help(self, slack: Slack, recorder: Recorder) -> None:
        heard(slack.send(mention(f"<@{BOT}>  ")))
        assert asked(recorder)["content"] == "help"

    def test_a_command_without_words_asks_for_help(self, slack: Slack, recorder: Recorder) -> None:
        slack.run(command(""))
        assert asked(recorder)["content"] == "help"

    def test_a_very_long_message_is_cut_not_lost(self, slack: Slack, recorder: Recorder) -> None:
        heard(slack.send(direct("word " * 7900)))
        assert len(asked(recorder)["content"]) in (31_999, 32_000)

    def test_a_stranger_of_a_shared_channel_is_known_by_their_own_team(self, slack: Slack, recorder: Recorder) -> None:
        """Slack Connect: the envelope's team may be theirs; the installation's is in `authorizations`."""
        shared = mention(team="T0OTHER", user_team="T0OTHER", source_team="T0OTHER")
        heard(slack.send(but(shared, team_id="T0OTHER", is_ext_shared_channel=True)))
        data = asked(recorder)
        assert data["user_id"] == f"slack:T0OTHER:{PERSON}"
        assert data["metadata"]["slack_team_id"] == TEAM


class TestText:
    @pytest.mark.parametrize(
        ("sent", "asks"),
        [
            (f"<@{BOT}> hello", "hello"),
            (f"<@{BOT}>: hello", "hello"),
            (f"<@{BOT}|agent>, hello", "hello"),
            (f"hey <@{BOT}> are you there", "hey are you there"),
            (f"hello <@{BOT}>", "hello"),
            (f"<@{BOT}> a &lt; b &amp;&amp; c &gt; d", "a < b && c > d"),
            (f"<@{BOT}> &amp;lt;", "&lt;"),
            (f"<@{BOT}> see <https://example.com/a?b=1&amp;c=2>", "see https://example.com/a?b=1&c=2"),
            (f"<@{BOT}> see <https://example.com|the page>", "see the page (https://example.com)"),
            (f"<@{BOT}> see <http://example.com|example.com>", "see http://example.com"),
            (f"<@{BOT}> write <mailto:a@example.com|a@example.com>", "write a@example.com"),
            (f"<@{BOT}> ask <@U0BEN|ben> or <@U0CEM>", "ask @ben or @U0CEM"),
            (f"<@{BOT}> in <#C0HELP|help> or <#C0X>", "in #help or #C0X"),
            (f"<@{BOT}> <!here> <!subteam^S1|@ops> <!date^1^{{date}}|today>", "@here @ops today"),
            (f"<@{BOT}> first\nsecond\n\n- third", "first\nsecond\n\n- third"),
            (f"<@{BOT}> Größe 💻", "Größe 💻"),
        ],
    )
    def test_it_reaches_the_agent_as_people_read_it(self, slack: Slack, recorder: Recorder, sent: str, asks: str) -> None:
        heard(slack.send(mention(sent)))
        assert asked(recorder)["content"] == asks


def without(envelope: dict[str, Any], field: str) -> dict[str, Any]:
    return callback({name: value for name, value in envelope["event"].items() if name != field})


IGNORED: dict[str, Any] = {
    "chatter in a channel": message(),
    "chatter in a group's direct messages": message(channel="G0GROUP", channel_type="mpim"),
    "the channel's copy of a mention": message(f"<@{BOT}> hello"),
    "the channel's copy of a mention in a thread": message(f"<@{BOT}> hello", thread_ts=PARENT),
    "a reply that speaks to somebody else": message("<@U0BEN> what do you think?", thread_ts=PARENT),
    "a bot's message": message(bot_id="B0OTHER", thread_ts=PARENT),
    "a bot's direct message": direct(bot_id="B0OTHER"),
    "a bot's mention": mention(bot_id="B0OTHER"),
    "a message of the old bot kind": direct(subtype="bot_message", bot_id="B0OTHER"),
    "our own direct message": direct(user=BOT, bot_id="B0BOT"),
    "our own message without a bot's id": direct(user=BOT),
    "our own reply": message(user=BOT, thread_ts=PARENT),
    "an edit": callback({"type": "message", "subtype": "message_changed", "channel": DIRECT, "channel_type": "im",
                         "ts": TS, "hidden": True, "message": {"user": PERSON, "text": "x", "ts": PARENT}}),
    "an edit that adds a mention": mention(edited={"user": PERSON, "ts": "1700000001.000000"}),
    "a deletion": callback({"type": "message", "subtype": "message_deleted", "channel": DIRECT, "channel_type": "im",
                            "ts": TS, "hidden": True, "deleted_ts": PARENT}),
    "somebody joined": message("<@U0ANN> has joined", subtype="channel_join"),
    "a new topic": direct(subtype="channel_topic"),
    "a file without words": direct("", subtype="file_share", files=[{"id": "F1"}]),
    "a reaction": callback({"type": "reaction_added", "user": PERSON, "reaction": "+1", "item": {"type": "message"}}),
    "somebody opened our page": callback({"type": "app_home_opened", "user": PERSON, "channel": DIRECT, "tab": "home"}),
    "an event of no known form": callback({"type": "message"}),
    "a message of nobody": without(direct(), "user"),
    "a message of no time": without(direct(), "ts"),
    "an event that is no object": but(direct(), event="message"),
    "an envelope without an event": but(direct(), event=None),
    "we are rate limited": {"token": "t", "type": "app_rate_limited", "team_id": TEAM, "minute_rate_limited": 1700000000,
                            "api_app_id": "A0APP"},
}  # fmt: skip


class TestIgnored:
    @pytest.mark.parametrize("what", list(IGNORED))
    def test_is_heard_and_published_nowhere(self, slack: Slack, recorder: Recorder, what: str) -> None:
        heard(slack.send(IGNORED[what]))
        assert recorder.events == []

    @pytest.mark.parametrize(
        "payload",
        [
            press(None),
            press("  "),
            {**press(), "actions": []},
            {**press(), "actions": [{"type": "static_select", "action_id": "a", "action_ts": "1.1", "selected_option": {}}]},
            {**press(), "container": {"type": "view", "view_id": "V1"}},
            {"type": "view_submission", "user": {"id": PERSON}, "view": {}},
            {"type": "shortcut", "user": {"id": PERSON}, "callback_id": "c"},
        ],
    )
    def test_interactions_that_ask_for_nothing(self, slack: Slack, recorder: Recorder, payload: dict[str, Any]) -> None:
        heard(slack.use(payload))
        assert recorder.events == []

    def test_slacks_look_at_our_certificate(self, slack: Slack, recorder: Recorder) -> None:
        heard(slack.run({"ssl_check": "1", "token": "a-verification-token"}))
        assert recorder.events == []


class TestOnce:
    def test_a_mention_that_is_also_a_message_of_the_channel_is_one_request(self, slack: Slack, recorder: Recorder) -> None:
        heard(slack.send(mention()))
        heard(slack.send(but(message(f"<@{BOT}> {LAPTOP}"), event_id="Ev0SECOND")))
        asked(recorder)

    def test_where_the_bot_is_not_known_the_two_have_one_id(self, slack: Slack, recorder: Recorder) -> None:
        slack.send(but(mention(thread_ts=PARENT), authorizations=[]))
        slack.send(but(message(LAPTOP, thread_ts=PARENT), authorizations=[]))
        first, second = (event.data() for event in recorder.events)
        assert first["request_id"] == second["request_id"]
        assert first["conversation_key"] == second["conversation_key"]
        assert first["content"] == LAPTOP

    def test_a_resend_under_another_event_id_is_the_same_request(self, slack: Slack, recorder: Recorder) -> None:
        heard(slack.send(mention()))
        again = but(mention(), event_id="Ev0SECOND", event_time=1700000061)
        heard(slack.send(again, X_Slack_Retry_Num="1", X_Slack_Retry_Reason="http_timeout"))
        first, second = recorder.events
        assert first.attribute("id") == second.attribute("id")
        assert without_times(first) == without_times(second)

    def test_a_command_and_a_press_that_come_twice_are_the_same_request(self, slack: Slack, recorder: Recorder) -> None:
        for _ in range(2):
            slack.run(command())
            slack.use(press())
        assert len({event.attribute("id") for event in recorder.events}) == 2

    def test_the_same_time_in_another_channel_or_team_is_another_request(self, slack: Slack, recorder: Recorder) -> None:
        slack.send(mention())
        slack.send(mention(channel="C0OTHER"))
        other = [{"team_id": "T0OTHER", "user_id": BOT, "is_bot": True}]
        slack.send(but(mention(), authorizations=other))
        assert len({event.attribute("id") for event in recorder.events}) == 3

    def test_two_commands_are_two_requests(self, slack: Slack, recorder: Recorder) -> None:
        slack.run(command())
        slack.run(command(trigger_id="13345224610.1.2"))
        assert len({event.attribute("id") for event in recorder.events}) == 2


def without_times(event: Event) -> dict[str, Any]:
    return {name: value for name, value in event.data().items() if name not in ("accepted_at", "traceparent")}


CHALLENGE = {"token": "a-verification-token", "challenge": "3eZbrw1aB10FEMAGAZd4FyFQ", "type": "url_verification"}


class TestUrlVerification:
    def test_the_challenge_comes_back(self, slack: Slack, recorder: Recorder) -> None:
        answer = slack.send(CHALLENGE)
        assert (answer.status, answer.json()) == (200, {"challenge": CHALLENGE["challenge"]})
        assert recorder.events == []

    def test_not_to_a_stranger(self, function: Function) -> None:
        problem(Slack(function.url, "another secret").send(CHALLENGE), 401)

    def test_without_a_challenge_it_is_malformed(self, slack: Slack) -> None:
        problem(slack.send({"type": "url_verification"}), 400)

    def test_behind_the_gateway_too(self, function: Function) -> None:
        assert Slack(function.url + "/api/v1/requests/slack").send(CHALLENGE).status == 200


class TestRefused:
    @pytest.mark.parametrize(
        "change", [{"x_slack_signature": "v0=" + "0" * 64}, {"x_slack_request_timestamp": "1600000000"}]
    )
    def test_everything_without_a_good_signature(self, slack: Slack, recorder: Recorder, change: dict[str, str]) -> None:
        problem(slack.send(mention(), **change), 401)
        problem(slack.post(b"command=%2Fagent&user_id=U1&team_id=T1&text=x", FORM, **change), 401)
        problem(slack.post(b"payload=%7B%7D", FORM, **change), 401)
        problem(slack.post(b"ssl_check=1", FORM, **change), 401)
        assert recorder.events == []

    @pytest.mark.parametrize(
        "body", [b"payload=%7B", b"payload=[]", b"command=%2Fagent&text=%FF", b"command=a%00b&text=%00"]
    )
    def test_a_form_that_cannot_be_read(self, slack: Slack, recorder: Recorder, body: bytes) -> None:
        problem(slack.post(body, FORM), 400)
        assert recorder.events == []

    def test_a_form_that_is_not_slacks(self, slack: Slack) -> None:
        problem(slack.post(b"a=b", FORM), 415)

    def test_a_form_of_a_thousand_fields(self, slack: Slack) -> None:
        problem(slack.post("&".join(f"f{n}=1" for n in range(1000)).encode(), FORM), 400)


class TestNoBroker:
    @pytest.fixture
    def alone(self) -> Iterator[Slack]:
        function = Function("ingest-slack", settings_of_ingest(f"http://127.0.0.1:{free_port()}/"), ready=False)
        yield Slack(function.url)
        function.close()

    def test_an_event_is_503_so_that_slack_sends_it_again(self, alone: Slack) -> None:
        started = time.monotonic()
        answer = alone.send(mention())
        assert time.monotonic() - started < 3
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1

    def test_a_button_is_503_so_that_slack_marks_it(self, alone: Slack) -> None:
        problem(alone.use(press()), 503)

    def test_a_command_is_told_to_its_person_since_slack_does_not_send_it_again(self, alone: Slack) -> None:
        answer = alone.run(command())
        assert answer.status == 200
        assert answer.json()["response_type"] == "ephemeral"
        assert "again" in answer.json()["text"]

    def test_what_asks_for_nothing_needs_no_broker(self, alone: Slack) -> None:
        heard(alone.send(message()))
        assert alone.send(CHALLENGE).status == 200

    def test_a_broker_that_hangs_is_not_waited_for_3_s(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(50)
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            function = Function("ingest-slack", settings_of_ingest(url), ready=False)
            try:
                started = time.monotonic()
                problem(Slack(function.url).send(json.loads(json.dumps(mention()))), 503)
                assert time.monotonic() - started < 3
            finally:
                function.close()
