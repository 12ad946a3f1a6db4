"""ingest-slack as Slack meets it, over real HTTP, with real signatures: what never becomes a request."""

from __future__ import annotations

from typing import Any

import pytest

from tests.functional.ingest_slack.support import PARENT, heard
from tests.parts.recorder import Recorder
from tests.parts.slack import BOT, DIRECT, PERSON, TEAM, TS, Slack, but, callback, direct, mention, message, press


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
