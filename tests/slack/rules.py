"""What Slack's Web API takes and what it answers to the rest, by method (docs.slack.dev/reference/methods)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TS = re.compile(r"\d{10}\.\d{6}")
_CONVERSATION = re.compile(r"[CDG][A-Z0-9]{2,}")
_USER = re.compile(r"[UW][A-Z0-9]{2,}")
_REFERENCE = re.compile(r"<([^<>]*)>")
_CONTROL = re.compile(r"&(?!(?:amp|lt|gt);)|[<>]")
POST_LIMIT, UPDATE_LIMIT, ADVISED = 40_000, 4_000, 4_000  # characters of text
_METADATA_LIMIT = 16 * 1024  # bytes
_BLOCKS = 50
_COMMON = frozenset({"token"})


@dataclass(frozen=True)
class Method:
    """`required` and `optional` arguments; `reads` methods may be asked by GET."""

    required: frozenset[str]
    optional: frozenset[str] = field(default=frozenset())
    reads: bool = False


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


METHODS: Mapping[str, Method] = {
    "auth.test": Method(_names(""), reads=True),
    "chat.postMessage": Method(
        _names("channel"),
        _names(
            "text blocks attachments thread_ts metadata unfurl_links unfurl_media mrkdwn parse link_names reply_broadcast"
        ),
    ),
    "chat.update": Method(_names("channel ts"), _names("text blocks attachments metadata parse link_names reply_broadcast")),
    "chat.delete": Method(_names("channel ts")),
    "conversations.open": Method(_names(""), _names("users channel return_im prevent_creation")),
    "conversations.replies": Method(
        _names("channel ts"), _names("cursor include_all_metadata inclusive latest limit oldest"), reads=True
    ),
    "conversations.history": Method(
        _names("channel"), _names("cursor include_all_metadata inclusive latest limit oldest"), reads=True
    ),
}


class SlackError(Exception):
    """The method fails; the text is Slack's error code."""


def check_call(method: str, arguments: Mapping[str, Any]) -> None:
    """Raises SlackError unless Slack would take these arguments."""
    rule = METHODS.get(method)
    if rule is None:
        raise SlackError("unknown_method")
    if rule.required - arguments.keys():
        raise SlackError("invalid_arguments")
    channel = arguments.get("channel")
    # A user's id opens their direct messages, but only for chat.postMessage.
    is_person = method == "chat.postMessage" and _USER.fullmatch(str(channel))
    if channel is not None and not is_person and not _CONVERSATION.fullmatch(str(channel)):
        raise SlackError("channel_not_found")
    for name in ("ts", "thread_ts"):
        if name in arguments and not TS.fullmatch(str(arguments[name])):
            raise SlackError(f"invalid_{name}")
    for name in ("oldest", "latest"):
        if name in arguments and not re.fullmatch(r"\d+(\.\d{1,6})?", str(arguments[name])):
            raise SlackError(f"invalid_ts_{name}")
    if "limit" in arguments and not 1 <= int(arguments["limit"]) <= 1000:
        raise SlackError("invalid_limit")
    if method in ("chat.postMessage", "chat.update"):
        _check_message(arguments, POST_LIMIT if method == "chat.postMessage" else UPDATE_LIMIT)
    if method == "conversations.open" and not all(
        _USER.fullmatch(one) for one in str(arguments.get("users", "")).split(",")
    ):
        raise SlackError("user_not_found")


def _check_message(arguments: Mapping[str, Any], limit: int) -> None:
    if not (arguments.get("text") or arguments.get("blocks") or arguments.get("attachments")):
        raise SlackError("no_text")
    if len(arguments.get("text") or "") > limit:
        raise SlackError("msg_too_long")
    blocks = arguments.get("blocks")
    if blocks is not None and (not isinstance(blocks, list) or len(blocks) > _BLOCKS):
        raise SlackError("invalid_blocks")
    for block in blocks or ():
        _check_block(block)
    metadata = arguments.get("metadata")
    if metadata is None:
        return
    if not isinstance(metadata, dict) or set(metadata) != {"event_type", "event_payload"}:
        raise SlackError("invalid_metadata_format")
    if not re.fullmatch(r"\w{1,255}", str(metadata["event_type"])) or not isinstance(metadata["event_payload"], dict):
        raise SlackError("invalid_metadata_schema")
    if any(not isinstance(value, str | int | float | bool) for value in metadata["event_payload"].values()):
        raise SlackError("invalid_metadata_schema")
    if len(str(metadata).encode()) > _METADATA_LIMIT:
        raise SlackError("metadata_too_large")


def _check_block(block: Any) -> None:
    """Limits: docs.slack.dev/reference/block-kit."""
    if block.get("type") == "section":
        good = 1 <= len(block["text"]["text"]) <= 3000 and block["text"]["type"] in ("mrkdwn", "plain_text")
    elif block.get("type") == "actions":
        good = 1 <= len(block["elements"]) <= 25
        for button in block["elements"]:
            good = good and button["type"] == "button" and button["text"]["type"] == "plain_text"
            good = good and len(button["text"]["text"]) <= 75 and len(button["value"]) <= 2000 and button["action_id"]
    else:
        good = False
    if not good:
        raise SlackError("invalid_blocks")


def faults_of(method: str, verb: str, content_type: str, arguments: Mapping[str, Any]) -> list[str]:
    """What Slack lets pass, and a careful app does not do."""
    rule, found = METHODS[method], []
    if unknown := arguments.keys() - rule.required - rule.optional - _COMMON:
        found.append(f"{method}: unknown arguments {sorted(unknown)}")
    if "token" in arguments:
        found.append(f"{method}: the token travels as an argument")
    if verb == "GET" and not rule.reads:
        found.append(f"{method}: written by GET")
    if content_type.startswith("application/json") and "charset=utf-8" not in content_type.lower():
        found.append(f"{method}: missing_charset")
    text = arguments.get("text")
    if isinstance(text, str):
        if len(text) > ADVISED:
            found.append(f"{method}: {len(text)} characters, more than advised")
        if text.split("\n").count("```") % 2:
            found.append(f"{method}: a code block is not closed")
        found += [f"{method}: {one!r} may call people" for one in _REFERENCE.findall(text) if one[:1] in "@!#" or not one]
        if _CONTROL.search(_REFERENCE.sub("", text)):
            found.append(f"{method}: a control character is not escaped")
    if method == "chat.postMessage" and (arguments.get("unfurl_links"), arguments.get("unfurl_media")) != (False, False):
        found.append(f"{method}: links would be fetched")
    return found
