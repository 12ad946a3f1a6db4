"""ingest-slack as Slack meets it, over real HTTP, with real signatures: what becomes a request, and of which text."""

from __future__ import annotations

import pytest

from tests.functional.ingest_slack.support import LAPTOP, OTHER, PARENT, asked, heard
from tests.parts.functions import Function
from tests.parts.recorder import Recorder
from tests.parts.slack import BOT, CHANNEL, DIRECT, PERSON, TEAM, TS, Slack, but, command, direct, mention, message, press


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
