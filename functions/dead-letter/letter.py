"""A dead letter: the event, where it failed, and what that says about trying again."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cloudevents.exceptions import GenericException
from cloudevents.http import CloudEvent, from_http
from flask import Request
from pydantic import ValidationError

from common import events
from common.errors import Malformed
from common.events import NormalizedRequest, SessionReady

_ERROR = ("knativeerrordest", "knativeerrorcode", "knativeerrordata")
_RESENDS = "resends"  # our extension: how often dead-letter has sent this event again
_PASSING = {404, 408, 409, 429}


@dataclass(frozen=True)
class Letter:
    """An event that a Trigger gave up on."""

    attributes: dict[str, str]
    raw: bytes
    destination: str
    code: str
    data: str
    resends: int
    request: NormalizedRequest | None

    @classmethod
    def read(cls, request: Request) -> Letter:
        """The dead letter of a delivery, whatever its data are (they may be why it failed).

        Raises Malformed when it is no CloudEvent at all.
        """
        try:
            event = from_http(request.headers, request.get_data(), data_unmarshaller=lambda data: data)
        except GenericException:
            raise Malformed("The request carries no CloudEvent with id, source, type and specversion.") from None
        attributes = {name: str(value) for name, value in event.get_attributes().items()}
        destination, code, data = (attributes.pop(name, "") for name in _ERROR)
        resends = attributes.pop(_RESENDS, "0")
        raw = _bytes(event.data)
        return cls(
            attributes=attributes,
            raw=raw,
            destination=destination,
            code=code,
            data=data,
            resends=int(resends) if resends.isdigit() else 0,
            request=_request(attributes["type"], raw),
        )

    @property
    def id(self) -> str:
        """The event's id."""
        return self.attributes["id"]

    @property
    def type(self) -> str:
        """The event's type."""
        return self.attributes["type"]

    @property
    def request_id(self) -> str | None:
        """The request that the event is about, as it says itself."""
        return self.attributes.get("requestid") or (self.request.request_id if self.request else None)

    @property
    def may_pass(self) -> bool:
        """Whether what failed may work later: no answer, 5xx, 404, 408, 409, 429 (what brokers retry)."""
        return not self.code.isdigit() or int(self.code) in _PASSING or not 300 <= int(self.code) < 500

    @property
    def is_only_a_sign(self) -> bool:
        """Whether only Slack's "thinking" sign is missing: session events wake response-dispatch for nothing else."""
        host = urlsplit(self.destination).hostname or ""
        return self.type in (events.SESSION_CREATED, events.SESSION_UPDATED) and host.split(".")[0] == "response-dispatch"

    def is_ours(self) -> bool:
        """Whether this is the one event that moves its request on, not a stray one that only names it."""
        expected = {
            events.REQUEST_CREATED: self.request_id,
            events.SESSION_CREATED: f"{self.request_id}.session",
            events.SESSION_UPDATED: f"{self.request_id}.session",
        }
        return self.request_id is not None and expected.get(self.type) == self.id

    def again(self) -> CloudEvent:
        """The same event, id and all, saying that it was sent once more."""
        return CloudEvent({**self.attributes, _RESENDS: str(self.resends + 1)}, self.raw)

    def row(self) -> dict[str, Any]:
        """Parameters of the statement record_dead_letter: the event whole, as JSON where it can be stored as JSON."""
        whole: dict[str, Any] = {"attributes": self.attributes}
        try:
            if b"\\u0000" in self.raw:
                raise ValueError
            whole["data"] = json.loads(self.raw.decode("utf-8"), parse_constant=_not_json)
            stored = json.dumps(whole, ensure_ascii=False).encode("utf-8").decode("utf-8")
        except (ValueError, RecursionError):
            whole.pop("data", None)
            whole["data_base64"] = base64.b64encode(self.raw).decode("ascii")
            stored = json.dumps(whole)
        return {
            "source": self.attributes["source"],
            "event_id": self.id,
            "type": self.type,
            "request_id": self.request_id,
            "destination": self.destination,
            "code": self.code or None,
            "data": self.data or None,
            "event": stored,
            "resends": self.resends,
        }


def _bytes(data: Any) -> bytes:
    if data is None:
        return b""
    if isinstance(data, bytes):
        return data
    return data.encode("utf-8") if isinstance(data, str) else json.dumps(data).encode("utf-8")


def _not_json(constant: str) -> None:
    raise ValueError(constant)


def _request(event_type: str, raw: bytes) -> NormalizedRequest | None:
    try:
        if event_type == events.REQUEST_CREATED:
            return NormalizedRequest.model_validate_json(raw)
        if event_type in (events.SESSION_CREATED, events.SESSION_UPDATED):
            return SessionReady.model_validate_json(raw).request
    except ValidationError:
        return None
    return None
