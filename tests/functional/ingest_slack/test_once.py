"""ingest-slack as Slack meets it, over real HTTP, with real signatures: what comes twice is one request."""

from __future__ import annotations

from typing import Any

from tests.functional.ingest_slack.support import LAPTOP, PARENT, asked, heard
from tests.parts.functions import Event
from tests.parts.recorder import Recorder
from tests.parts.slack import BOT, Slack, but, command, mention, message, press


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
