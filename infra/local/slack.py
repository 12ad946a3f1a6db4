"""A stand-in for those methods of Slack's Web API that the functions use; it answers as Slack does (docs.slack.dev)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from infra.local.deliveries import Deliveries

Arguments = Mapping[str, Any]
Answer = dict[str, Any]

TEXT_LIMIT = 40_000  # characters of `text`; longer is msg_too_long (chat.postMessage, errors)
_BLOCKS_LIMIT, _SECTION_LIMIT = 50, 3000  # blocks of a message, characters of a section (Block Kit reference)
_CHANNEL = re.compile(r"[CDGUW][A-Z0-9]+|#[\w-]+")
_TOKEN = re.compile(r"xox[bp]-.+")
_TEAM, _USER, _BOT = "T0LOCAL", "U0AGENT", "B0AGENT"


class SlackError(Exception):
    """The method fails; the text is Slack's error code."""


class Slack:
    """Slack's messages in memory; those posted in earlier runs are read back from `deliveries`.

    Every chat.postMessage and chat.update is a delivery. Deletions and reactions last until the platform stops.
    """

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self._channels: dict[str, dict[str, Answer]] = {}
        self._reactions: set[tuple[str, str, str]] = set()
        self._last_ts = 0
        self._methods: dict[str, Callable[[Arguments], Answer]] = {
            "auth.test": self._auth_test,
            "chat.delete": self._delete,
            "conversations.open": self._open,
            "conversations.replies": self._replies,
            "conversations.history": self._history,
            "reactions.add": self._react,
            "users.info": self._user,
        }
        for entry in deliveries.entries:
            if entry["channel"] == "slack" and "ts" in entry["body"]:
                self._change(entry["body"])
            elif entry["channel"] == "slack":
                self._keep(entry["body"], entry["reference"])

    def call(self, method: str, token: str | None, arguments: Arguments, headers: Mapping[str, str]) -> Answer:
        """Run a method; `headers` are those of the HTTP request. Failures are answers too, as at Slack: `ok` false."""
        try:
            if not token:
                raise SlackError("not_authed")
            if not _TOKEN.fullmatch(token):
                raise SlackError("invalid_auth")
            if method == "chat.postMessage":
                return {"ok": True, **self._post(arguments, headers)}
            if method == "chat.update":
                return {"ok": True, **self._update(arguments, headers)}
            if method not in self._methods:
                raise SlackError("unknown_method")
            return {"ok": True, **self._methods[method](arguments)}
        except SlackError as error:
            return {"ok": False, "error": str(error)}

    def _auth_test(self, _arguments: Arguments) -> Answer:
        return {
            "url": "https://local.slack.com/",
            "team": "local",
            "team_id": _TEAM,
            "user": "agent",
            "user_id": _USER,
            "bot_id": _BOT,
            "is_enterprise_install": False,
        }

    def _post(self, arguments: Arguments, headers: Mapping[str, str]) -> Answer:
        channel = _channel(arguments)
        _check_content(arguments)
        metadata = arguments.get("metadata")
        if metadata is not None and not (
            isinstance(metadata, dict)
            and isinstance(metadata.get("event_type"), str)
            and isinstance(metadata.get("event_payload"), dict)
        ):
            raise SlackError("invalid_metadata_format")
        ts = self._next_ts()
        self._deliveries.add("slack", _request_id(metadata), headers, dict(arguments), reference=ts)
        return {"channel": channel, "ts": ts, "message": self._keep(arguments, ts)}

    def _keep(self, arguments: Arguments, ts: str) -> Answer:
        kept = ("text", "blocks", "attachments", "thread_ts", "metadata")
        message = {"type": "message", "user": _USER, "bot_id": _BOT, "team": _TEAM, "ts": ts, "text": ""}
        message |= {name: arguments[name] for name in kept if arguments.get(name)}
        self._channels.setdefault(_channel(arguments), {})[ts] = message
        self._last_ts = max(self._last_ts, int(ts.replace(".", "")))
        return message

    def _next_ts(self) -> str:
        self._last_ts = max(self._last_ts + 1, time.time_ns() // 1000)
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    def _message(self, arguments: Arguments, name: str = "ts") -> tuple[str, str, Answer]:
        channel, ts = _channel(arguments), str(arguments.get(name, ""))
        message = self._channels.get(channel, {}).get(ts)
        if message is None:
            raise SlackError("message_not_found")
        return channel, ts, message

    def _update(self, arguments: Arguments, headers: Mapping[str, str]) -> Answer:
        channel, ts, _ = self._message(arguments)
        _check_content(arguments)
        self._deliveries.add("slack", _request_id(arguments.get("metadata")), headers, dict(arguments), reference=ts)
        message = self._change(arguments)
        return {"channel": channel, "ts": ts, "text": message["text"], "message": message}

    def _change(self, arguments: Arguments) -> Answer:
        kept = self._channels.setdefault(_channel(arguments), {})
        message = kept.setdefault(arguments["ts"], {"type": "message", "user": _USER, "bot_id": _BOT, "ts": arguments["ts"]})
        message |= {name: arguments[name] for name in ("text", "blocks", "attachments", "metadata") if name in arguments}
        return message

    def _open(self, arguments: Arguments) -> Answer:
        users = arguments.get("users", "")
        user = str(users[0] if isinstance(users, list) and users else users)
        if not re.fullmatch(r"[UW][A-Z0-9]+", user):
            raise SlackError("user_not_found")
        return {"channel": {"id": "D" + user[1:]}}

    def _delete(self, arguments: Arguments) -> Answer:
        channel, ts, _ = self._message(arguments)
        del self._channels[channel][ts]
        return {"channel": channel, "ts": ts}

    def _replies(self, arguments: Arguments) -> Answer:
        channel, thread = _channel(arguments), str(arguments.get("ts", ""))
        if not thread:
            raise SlackError("thread_not_found")
        messages = self._channels.get(channel, {})
        # A person wrote the thread's first message: it went to ingest-slack and is not known here.
        parent = messages.get(thread, {"type": "message", "user": "U0PERSON", "text": "", "ts": thread})
        oldest = _time(arguments, "oldest", 0.0)
        replies = [
            one for ts, one in messages.items() if one.get("thread_ts") == thread and ts != thread and float(ts) > oldest
        ]
        return _page([parent | {"thread_ts": thread}, *replies], arguments)

    def _history(self, arguments: Arguments) -> Answer:
        channel = _channel(arguments)
        newest_first = reversed(self._channels.get(channel, {}).values())
        oldest, latest = _time(arguments, "oldest", 0.0), _time(arguments, "latest", float("inf"))
        ends = (oldest, latest) if _is_true(arguments, "inclusive") else ()
        within = [
            one
            for one in newest_first
            if one.get("thread_ts") in (None, one["ts"]) and (oldest < float(one["ts"]) < latest or float(one["ts"]) in ends)
        ]
        return _page(within, arguments)

    def _react(self, arguments: Arguments) -> Answer:
        reaction = (_channel(arguments), str(arguments.get("timestamp", "")), str(arguments.get("name", "")))
        if not reaction[2]:
            raise SlackError("invalid_name")
        if reaction in self._reactions:
            raise SlackError("already_reacted")
        self._reactions.add(reaction)
        return {}

    def _user(self, arguments: Arguments) -> Answer:
        user = str(arguments.get("user", ""))
        if not re.fullmatch(r"[UW][A-Z0-9]+", user):
            raise SlackError("user_not_found")
        profile = {"real_name": f"Local {user}", "display_name": user.lower(), "email": f"{user.lower()}@local.invalid"}
        return {"user": {"id": user, "team_id": _TEAM, "name": user.lower(), "is_bot": user == _USER, "profile": profile}}


def _channel(arguments: Arguments) -> str:
    channel = str(arguments.get("channel", ""))
    if not _CHANNEL.fullmatch(channel):
        raise SlackError("channel_not_found")
    # A message to a user goes to the direct message with them.
    return "D" + channel[1:] if channel[0] in "UW" else channel


def _request_id(metadata: Any) -> str | None:
    payload = metadata.get("event_payload") if isinstance(metadata, dict) else None
    return payload.get("request_id") if isinstance(payload, dict) else None


def _check_content(arguments: Arguments) -> None:
    text, blocks = arguments.get("text"), arguments.get("blocks")
    if not (text or blocks or arguments.get("attachments")):
        raise SlackError("no_text")
    if len(str(text or "")) > TEXT_LIMIT:
        raise SlackError("msg_too_long")
    if blocks:
        if not isinstance(blocks, list) or not all(isinstance(block, dict) and "type" in block for block in blocks):
            raise SlackError("invalid_blocks_format")
        sections = [block["text"] for block in blocks if block["type"] == "section" and isinstance(block.get("text"), dict)]
        if len(blocks) > _BLOCKS_LIMIT or any(len(str(one.get("text", ""))) > _SECTION_LIMIT for one in sections):
            raise SlackError("invalid_blocks")


def _page(messages: list[Answer], arguments: Arguments) -> Answer:
    try:
        limit, start = int(arguments.get("limit", 1000)), int(arguments.get("cursor") or 0)
    except ValueError:
        raise SlackError("invalid_cursor") from None
    end = start + max(1, limit)
    hidden = () if _is_true(arguments, "include_all_metadata") else ("metadata",)
    page = [{name: value for name, value in one.items() if name not in hidden} for one in messages[start:end]]
    more = end < len(messages)
    answer: Answer = {"messages": page, "has_more": more}
    if more:
        answer["response_metadata"] = {"next_cursor": str(end)}
    return answer


def _time(arguments: Arguments, name: str, default: float) -> float:
    try:
        return float(arguments.get(name) or default)
    except ValueError:
        raise SlackError(f"invalid_ts_{name}") from None


def _is_true(arguments: Arguments, name: str) -> bool:
    return str(arguments.get(name, "")).lower() in ("1", "true")
