"""CloudEvents 1.0 over HTTP: binary and structured mode in, binary mode out.

An event is kept in the form in which it goes out: its attributes as HTTP headers. So what came in binary mode
passes through unchanged, and nothing is decoded and encoded again on the way.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

HOPS = "ce-knativebrokerttl"  # the broker's own loop counter (knative/eventing pkg/broker/ttl.go)

_REQUIRED = ("ce-id", "ce-source", "ce-type")
# Percent-encoded are the space, the double quote, the percent and what is not printable ASCII (CloudEvents
# HTTP protocol binding, 3.1.3.2).
_SAFE = "".join(c for c in string.printable if c.isascii() and c.isprintable() and c not in ' "%')
_SAFE_RAW = _SAFE + ' "%'
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_HOPS_VALUE = re.compile(r"-?[0-9]{1,9}")


class InvalidEvent(Exception):
    """It says that it is a CloudEvent and is not a valid one; the text says why and holds no value of it."""


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """A valid event.

    `headers` are its attributes in binary mode, names in lower case; `hops` is the knativebrokerttl it had.
    """

    headers: dict[str, str]
    data: bytes
    hops: int | None = None

    def get(self, name: str) -> str | None:
        """Return the attribute or extension `name` as text, None if the event has none."""
        value = self.headers.get("content-type" if name == "datacontenttype" else f"ce-{name}")
        return unquote(value) if value is not None and "%" in value else value


def encode_value(value: str) -> str:
    """Return an attribute's value as it stands in a header; InvalidEvent if it is no Unicode text."""
    try:
        return quote(value, safe=_SAFE)
    except UnicodeEncodeError as error:
        raise InvalidEvent("an attribute is not Unicode text") from error


def parse(headers: Mapping[str, str], body: bytes) -> CloudEvent | None:
    """Read a CloudEvent from an HTTP message, None if the message does not claim to be one.

    `headers` finds names in any case. Raises InvalidEvent when the message claims to be one and is none.
    """
    content_type = headers.get("content-type", "")
    if content_type[:23].lower() == "application/cloudevents":
        return _structured(content_type, body)
    if "ce-specversion" in headers:
        return _binary(headers, body)
    return None


def _binary(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    out: dict[str, str] = {}
    for key, value in headers.items():
        name = key.lower()
        if not name.startswith("ce-"):
            if name == "content-type" and value:
                out[name] = value
            continue
        if not value.isascii():
            try:
                value = quote(value, safe=_SAFE_RAW)
            except UnicodeEncodeError as error:
                raise InvalidEvent("a ce- header is not UTF-8") from error
        if name in out:
            raise InvalidEvent("an attribute is given twice")
        out[name] = value
    out.pop("ce-datacontenttype", None)  # in binary mode it is the Content-Type, and only that
    return _checked(out, body)


def _structured(content_type: str, body: bytes) -> CloudEvent:
    if content_type.partition(";")[0].strip().lower() != "application/cloudevents+json":
        raise InvalidEvent("the only structured event format known here is application/cloudevents+json")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent("the structured event is not JSON") from error
    if not isinstance(document, dict):
        raise InvalidEvent("the structured event is not a JSON object")
    data, data_base64 = document.pop("data", None), document.pop("data_base64", None)
    data_type = document.pop("datacontenttype", None)
    if data_type is None:
        data_type = "application/json" if data is not None else ""
    if not isinstance(data_type, str) or not (data_type.isascii() and data_type.isprintable()):
        raise InvalidEvent("datacontenttype is not a media type")
    out = {f"ce-{name}": encode_value(_text(value)) for name, value in document.items() if value is not None}
    if data_type:
        out["content-type"] = data_type
    return _checked(out, _data(data, data_base64, data_type))


def _text(value: object) -> str:
    """Return the canonical text of an attribute's value (CloudEvents 1.0, type system)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise InvalidEvent("an attribute is neither text, nor a whole number, nor a boolean")


def _data(data: object, data_base64: object, data_type: str) -> bytes:
    if data is not None and data_base64 is not None:
        raise InvalidEvent("data and data_base64 exclude each other")
    if data_base64 is not None:
        if not isinstance(data_base64, str):
            raise InvalidEvent("data_base64 is not text")
        try:
            return base64.b64decode(data_base64, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidEvent("data_base64 is not base64") from error
    if data is None:
        return b""
    subtype = data_type.partition(";")[0].strip().lower().rpartition("/")[2]
    if subtype == "json" or subtype.endswith("+json"):
        try:
            return json.dumps(data, allow_nan=False, separators=(",", ":")).encode()
        except (ValueError, RecursionError) as error:
            raise InvalidEvent("data holds what JSON cannot say") from error
    if not isinstance(data, str):
        raise InvalidEvent("data that is not JSON must be text or data_base64")
    try:
        return data.encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent("data is not Unicode text") from error


def _checked(headers: dict[str, str], data: bytes) -> CloudEvent:
    if headers.get("ce-specversion") != "1.0":
        raise InvalidEvent("specversion is not 1.0")
    for name in _REQUIRED:
        if not headers.get(name):
            raise InvalidEvent(f"the attribute {name[3:]} is missing")
    for name in [name for name, value in headers.items() if not value]:
        del headers[name]  # an optional attribute without a value is one that is not set
    for name in headers:
        bare = name[3:]
        if name != "content-type" and not (bare.isascii() and bare.isalnum() and bare == bare.lower()):
            raise InvalidEvent("the name of an attribute may hold a-z and 0-9 only")
    time = headers.get("ce-time")
    if time is not None and not _TIME.fullmatch(unquote(time)):
        raise InvalidEvent("time is not an RFC 3339 timestamp")
    hops = headers.pop(HOPS, "")
    return CloudEvent(headers, data, int(hops) if _HOPS_VALUE.fullmatch(hops) else None)
