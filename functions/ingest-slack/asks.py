"""Which of Slack's events, commands and buttons are requests, and of whom, where, in which conversation.

A request's id is made from what happened in Slack, not from the delivery: Slack sends the same message again under new event
ids, and a mention also as a message of its channel.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clean import clean, first_mention, mentions
from envelope import Command, Event, Interaction
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.bodies import MAX_CONTENT_CHARS
from common.ingest import conversation, request_id_for

HELP = "help"  # what somebody asks who only mentions us
_SUBTYPES = (None, "file_share", "thread_broadcast")  # of messages that people wrote; all others are edits, bots, notices


@dataclass(frozen=True)
class Ask:
    """A request that came from Slack.

    `kind` is mention, message, thread_reply, command or button; `place` the conversation's team, channel and thread;
    `channel` and `thread` where the answer goes.
    """

    kind: str
    identity: tuple[str, ...]
    user: str
    user_team: str
    place: tuple[str, str, str | None]
    channel: str
    thread: str | None
    text: str

    @property
    def user_id(self) -> str:
        """The asker as everything behind ingest knows them: never equal to a web or command line user."""
        return f"slack:{self.user_team}:{self.user}"

    def request(self) -> dict[str, Any]:
        """Its fields of NormalizedRequest, and its id."""
        return {
            "request_id": request_id_for("slack", *self.identity),
            "user_id": self.user_id,
            "content": self.text[:MAX_CONTENT_CHARS].strip() or HELP,
            "request_type": self.kind,
            "conversation_key": conversation("slack", *self.place, self.user),
            "shared_key": conversation("slack", *self.place),
            "channel_id": self.channel,
            "thread_id": self.thread,
            "external_session_id": self.place[2],
            "metadata": {"slack_event": self.kind, "slack_user_id": self.user, "slack_team_id": self.place[0]},
        }


class _Slacks(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Id(_Slacks):
    id: str = Field(min_length=1, max_length=64)


class _Message(_Slacks):
    """An app_mention or message event."""

    type: str
    user: str = Field(min_length=1, max_length=64)
    channel: str = Field(min_length=1, max_length=64)
    ts: str = Field(min_length=1, max_length=64)
    text: str = ""
    thread_ts: str | None = Field(None, max_length=64)
    channel_type: str | None = None
    subtype: str | None = None
    bot_id: str | None = None
    edited: Any = None
    hidden: bool = False
    parent_user_id: str | None = None
    team: str | None = Field(None, max_length=64)
    user_team: str | None = Field(None, max_length=64)

    @property
    def is_direct(self) -> bool:
        """Whether it is in the direct messages of one person with us."""
        return self.channel_type == "im" or (self.channel_type is None and self.channel.startswith("D"))

    def is_written_by_a_person(self, bot_user: str | None) -> bool:
        """Not by a bot, not by us, and not the news of an edit or a deletion."""
        return not (self.bot_id or self.edited or self.hidden or self.user == bot_user) and self.subtype in _SUBTYPES


class _Command(_Slacks):
    command: str
    user_id: str = Field(min_length=1, max_length=64)
    team_id: str = Field(min_length=1, max_length=64)
    text: str = ""
    trigger_id: str = ""


class _Action(_Slacks):
    type: str
    value: str | None = None
    action_ts: str = Field(min_length=1, max_length=64)


class _Container(_Slacks):
    message_ts: str = Field(min_length=1, max_length=64)
    channel_id: str = Field(min_length=1, max_length=64)
    thread_ts: str | None = Field(None, max_length=64)


class _Presser(_Id):
    team_id: str | None = None


class _Buttons(_Slacks):
    """A block_actions payload of a message."""

    user: _Presser
    team: _Id | None = None
    container: _Container
    message: dict[str, Any] = {}
    actions: list[_Action] = Field(min_length=1)


def ask_of(envelope: Event | Command | Interaction) -> Ask | None:
    """The request in it; None when it is none: chatter, bots, edits, other events, or not of a form that Slack documents."""
    try:
        if isinstance(envelope, Event):
            return _of_event(envelope.payload)
        if isinstance(envelope, Command):
            return _of_command(_Command.model_validate(envelope.fields))
        if envelope.payload.get("type") == "block_actions":
            return _of_button(_Buttons.model_validate(envelope.payload))
    except ValidationError:
        return None
    return None


def _of_event(payload: Mapping[str, Any]) -> Ask | None:
    event = payload.get("event")
    if not isinstance(event, dict) or event.get("type") not in ("app_mention", "message"):
        return None
    message = _Message.model_validate(event)
    team, bot_user = _installation(payload)
    if team is None or not message.is_written_by_a_person(bot_user):
        return None
    kind = _kind(message, bot_user)
    if kind is None or (message.subtype == "file_share" and not clean(message.text, bot_user)):
        return None
    mentioned = bot_user or (first_mention(message.text) if kind == "mention" else None)
    if message.is_direct:
        # One person's direct messages are one conversation, wherever its commands were typed; a thread in it is another.
        thread, place = message.thread_ts, (team, message.user, message.thread_ts)
    else:
        thread = message.thread_ts or message.ts
        place = (team, message.channel, thread)
    return Ask(
        kind=kind,
        identity=(team, message.channel, message.ts),
        user=message.user,
        user_team=message.user_team or message.team or team,
        place=place,
        channel=message.channel,
        thread=thread,
        text=clean(message.text, mentioned),
    )


def _kind(message: _Message, bot_user: str | None) -> str | None:
    """What a person's message is to us; None when it is for others."""
    if message.type == "app_mention":
        return "mention"
    if message.is_direct:
        return "message"
    if message.thread_ts in (None, message.ts):
        return None
    if bot_user and mentions(message.text, bot_user):
        return None  # the app_mention of the same message brings it
    if bot_user and message.parent_user_id == bot_user:
        return "message"  # a thread that we began
    # Perhaps one that we are in: session-upsert knows. Not when it speaks to somebody else.
    return None if first_mention(message.text) else "thread_reply"


def _installation(payload: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The team that installed the app, and our bot user there.

    In a channel shared between organisations (Slack Connect) `team_id` may be another's: the authorization comes first.
    """
    known = payload.get("authorizations")
    first = known[0] if isinstance(known, list) and known and isinstance(known[0], dict) else {}
    teams = (first.get("team_id"), payload.get("context_team_id"), payload.get("team_id"))
    team = next((one for one in teams if isinstance(one, str) and one), None)
    bot_user = first.get("user_id") if first.get("is_bot") else None
    return team, bot_user if isinstance(bot_user, str) else None


def _of_command(command: _Command) -> Ask:
    return Ask(
        kind="command",
        identity=(command.team_id, "command", command.trigger_id or str(uuid.uuid4())),
        user=command.user_id,
        user_team=command.team_id,
        place=(command.team_id, command.user_id, None),
        channel=command.user_id,  # their direct message with us: we may not be where it was typed
        thread=None,
        text=clean(command.text),
    )


def _of_button(buttons: _Buttons) -> Ask | None:
    """A pressed button's value, asked by who pressed it, in the thread of its message."""
    action, at = buttons.actions[0], buttons.container
    team = buttons.team.id if buttons.team else buttons.user.team_id
    if action.type != "button" or not (action.value or "").strip() or team is None:
        return None
    found = at.thread_ts or buttons.message.get("thread_ts")
    thread = found if isinstance(found, str) else None
    if at.channel_id.startswith("D"):
        place = (team, buttons.user.id, thread)
    else:
        thread = thread or at.message_ts
        place = (team, at.channel_id, thread)
    return Ask(
        kind="button",
        identity=(team, at.channel_id, at.message_ts, buttons.user.id, action.action_ts),
        user=buttons.user.id,
        user_team=buttons.user.team_id or team,
        place=place,
        channel=at.channel_id,
        thread=thread,
        text=action.value or "",  # ours, as we wrote it
    )
