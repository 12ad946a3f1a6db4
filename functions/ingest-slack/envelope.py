"""What Slack sent: an event, a slash command, a pressed button, its question whether we are there; or the document's body.

All come to the one URL, signed alike. Forms: docs.slack.dev, "Events API", "Slash commands", "Handling user interaction".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from flask import Request

from common.bodies import parse_json, read_json
from common.errors import Malformed, UnsupportedMediaType

_FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 100


@dataclass(frozen=True)
class Challenge:
    """url_verification: Slack asks for this text back before it uses the URL."""

    text: str


@dataclass(frozen=True)
class Event:
    """event_callback: something happened that the app subscribed to."""

    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Command:
    """A slash command, as its form's fields."""

    fields: Mapping[str, str]


@dataclass(frozen=True)
class Interaction:
    """A person used something on a message or in a window of ours."""

    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Nothing:
    """Slack tells something that asks for nothing: `what`."""

    what: str


@dataclass(frozen=True)
class Document:
    """Not Slack's: the document's own JSON body, still unchecked."""

    value: Any


Envelope = Challenge | Event | Command | Interaction | Nothing | Document


def read(request: Request) -> Envelope:
    """Say what a request is, after its signature was verified.

    Raises Malformed and Invalid as common.bodies does, UnsupportedMediaType for what is neither JSON nor a form of Slack's.
    """
    if request.mimetype == _FORM:
        return _form(request.get_data().decode("utf-8"))
    value = read_json(request)
    kind = value.get("type") if isinstance(value, dict) and "content" not in value else None
    if kind == "url_verification":
        if not isinstance(value.get("challenge"), str):
            raise Malformed("The url_verification carries no challenge.")
        return Challenge(value["challenge"])
    if kind == "event_callback":
        return Event(value)
    if kind == "app_rate_limited":
        return Nothing(kind)
    return Document(value)


def _form(body: str) -> Envelope:
    try:
        fields = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"))
    except ValueError:
        raise Malformed("The form cannot be read.") from None
    if "payload" in fields:
        payload = parse_json(fields["payload"])
        if not isinstance(payload, dict):
            raise Malformed("The payload is not a JSON object.")
        return Interaction(payload)
    if "command" in fields:
        if any("\x00" in value for value in fields.values()):
            raise Malformed("The form holds NUL.")
        return Command(fields)
    if "ssl_check" in fields:
        return Nothing("ssl_check")
    raise UnsupportedMediaType("The body must be application/json, or a form that Slack sends.")
