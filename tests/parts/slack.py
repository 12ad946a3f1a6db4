"""What Slack sends: envelopes, commands and presses as docs.slack.dev documents them, signed as Slack signs."""

from __future__ import annotations

import copy
import json
from typing import Any
from urllib.parse import urlencode

from tests.parts.net import Answer, call
from tests.parts.samples import SLACK_SECRET, slack_headers

TEAM, BOT, PERSON, CHANNEL, DIRECT = "T0TEAM", "U0BOT", "U0ANN", "C0GENERAL", "D0ANN"
TS = "1700000000.000100"
FORM = "application/x-www-form-urlencoded"


def mention(text: str = f"<@{BOT}> I want to refresh my laptop", **event: Any) -> dict[str, Any]:
    """An app_mention in a channel (reference/events/app_mention)."""
    return callback(
        {
            "type": "app_mention",
            "user": PERSON,
            "text": text,
            "ts": TS,
            "team": TEAM,
            "channel": CHANNEL,
            "event_ts": TS,
            "client_msg_id": "9cbd4c5b-7ddf-4ede-b479-ad21fca66d63",
            "blocks": [{"type": "rich_text", "elements": []}],
            **event,
        }
    )


def message(text: str = "I want to refresh my laptop", **event: Any) -> dict[str, Any]:
    """A message event: of a channel, unless channel_type says im (reference/events/message)."""
    return callback(
        {
            "type": "message",
            "channel": CHANNEL,
            "user": PERSON,
            "text": text,
            "ts": TS,
            "team": TEAM,
            "event_ts": TS,
            "channel_type": "channel",
            **event,
        }
    )


def direct(text: str = "I want to refresh my laptop", **event: Any) -> dict[str, Any]:
    """A message.im event."""
    return message(text, **{"channel": DIRECT, "channel_type": "im", **event})


def callback(event: dict[str, Any], **outer: Any) -> dict[str, Any]:
    """An event in its envelope (apis/events-api, "Callback field overview")."""
    return {
        "token": "a-verification-token",
        "team_id": TEAM,
        "context_team_id": TEAM,
        "context_enterprise_id": None,
        "api_app_id": "A0APP",
        "event": event,
        "type": "event_callback",
        "event_id": "Ev0FIRST",
        "event_time": 1700000000,
        "authorizations": [
            {"enterprise_id": None, "team_id": TEAM, "user_id": BOT, "is_bot": True, "is_enterprise_install": False}
        ],
        "is_ext_shared_channel": False,
        "event_context": "4-eyJldCI6ImFwcF9tZW50aW9uIn0",
        **outer,
    }


def but(envelope: dict[str, Any], **outer: Any) -> dict[str, Any]:
    """The same envelope with other outer fields."""
    return {**copy.deepcopy(envelope), **outer}


def command(text: str = "I want to refresh my laptop", **fields: str) -> dict[str, str]:
    """A slash command's form (interactivity/implementing-slash-commands)."""
    return {
        "token": "a-verification-token",
        "team_id": TEAM,
        "team_domain": "example",
        "channel_id": CHANNEL,
        "channel_name": "general",
        "user_id": PERSON,
        "user_name": "ann",
        "command": "/agent",
        "text": text,
        "response_url": "https://hooks.slack.com/commands/1234/5678/a-secret-path",
        "trigger_id": "13345224609.738474920.8088930838d88f008e0",
        "api_app_id": "A0APP",
        "is_enterprise_install": "false",
        **fields,
    }


def press(value: str | None = "I want to refresh my laptop", **changes: Any) -> dict[str, Any]:
    """A block_actions payload of a button on a message of ours (reference/interaction-payloads/block_actions-payload)."""
    action: dict[str, Any] = {
        "action_id": "ask",
        "block_id": "b1",
        "text": {"type": "plain_text", "text": "Refresh my laptop", "emoji": True},
        "type": "button",
        "action_ts": "1700000100.000001",
    }
    if value is not None:
        action["value"] = value
    return {
        "type": "block_actions",
        "user": {"id": PERSON, "username": "ann", "name": "ann", "team_id": TEAM},
        "api_app_id": "A0APP",
        "token": "a-verification-token",
        "container": {"type": "message", "message_ts": "1700000050.000001", "channel_id": CHANNEL, "is_ephemeral": False},
        "trigger_id": "12466734323.1395872398.0a1b2c3d",
        "team": {"id": TEAM, "domain": "example"},
        "enterprise": None,
        "is_enterprise_install": False,
        "channel": {"id": CHANNEL, "name": "general"},
        "message": {"bot_id": "B0BOT", "type": "message", "text": "…", "user": BOT, "ts": "1700000050.000001"},
        "state": {"values": {}},
        "response_url": "https://hooks.slack.com/actions/T0TEAM/1/a-secret-path",
        "actions": [action],
        **changes,
    }


class Slack:
    """Sends to a request URL as Slack does."""

    def __init__(self, url: str, secret: str = SLACK_SECRET) -> None:
        self.url = url
        self._secret = secret

    def send(self, envelope: Any, **headers: str) -> Answer:
        """POST an envelope of the Events API."""
        return self.post(json.dumps(envelope).encode(), "application/json", **headers)

    def run(self, fields: dict[str, str]) -> Answer:
        """POST a slash command, or another plain form."""
        return self.post(urlencode(fields).encode(), FORM)

    def use(self, payload: Any) -> Answer:
        """POST an interaction."""
        return self.run({"payload": payload if isinstance(payload, str) else json.dumps(payload)})

    def post(self, raw: bytes, content_type: str, **headers: str) -> Answer:
        """POST a body, signed."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        signed = slack_headers(raw, secret=self._secret)
        return call("POST", self.url, body=raw, headers={"content-type": content_type, **signed, **given})
