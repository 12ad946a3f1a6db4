"""The events of the chain: their types, their data, and how one is made.

CloudEvents 1.0 in binary mode. Data are versioned by `dataschema`; unknown fields are ignored, missing ones are an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from random import randrange
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from cloudevents.exceptions import GenericException
from cloudevents.http import CloudEvent, from_http
from flask import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from common.errors import Malformed

PREFIX = "com.self-service-agent."
REQUEST_CREATED = PREFIX + "request.created"
SESSION_CREATED = PREFIX + "session.created"
SESSION_UPDATED = PREFIX + "session.updated"
RESPONSE_READY = PREFIX + "agent.response-ready"

# An integration's name: `ingest-<name>` publishes its requests, `channels` in response-dispatch sends its answers. It has a
# form and is in no list, so that a new one needs no new release of every other function.
INTEGRATION_NAME = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
IntegrationType = Annotated[str, Field(pattern=INTEGRATION_NAME, max_length=32)]


class _Data(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class NormalizedRequest(_Data):
    """A request as every function after ingest sees it, whatever it came from. Data of request.created."""

    request_id: str = Field(min_length=1, max_length=128)
    integration_type: IntegrationType
    integration_key: str = Field("", max_length=128, description="The tool's id; empty for people's integrations.")
    request_type: str = Field("message", max_length=64)
    user_id: str = Field(min_length=1, max_length=256)
    content: str = Field(min_length=1)
    conversation_key: str = Field(min_length=1, max_length=128, description="Which conversation this belongs to.")
    shared_key: str | None = Field(None, max_length=128, description="The conversation when a thread is shared.")
    channel_id: str | None = Field(None, max_length=128)
    thread_id: str | None = Field(None, max_length=128)
    external_session_id: str | None = Field(None, max_length=256)
    metadata: dict[str, Any] = Field(default_factory=dict, description="What the integration says about the asker.")
    context: dict[str, Any] = Field(default_factory=dict, description="What the agent may know: ticket, command.")
    accepted_at: datetime = Field(description="When ingest accepted it; the order of a session's turns.")
    traceparent: str | None = Field(None, max_length=64)


class Session(_Data):
    """The session that a request belongs to, as it was when the request was recorded."""

    session_id: str
    opened: bool = Field(description="Whether this request opened it.")


class SessionReady(_Data):
    """Data of session.created and session.updated: the request, and the session it belongs to."""

    session: Session
    request: NormalizedRequest


class Failure(_Data):
    """Why a request has no answer: a code for programs, a sentence for people."""

    code: str
    message: str


class ResponseReady(_Data):
    """Data of agent.response-ready: a request's one committed answer, or why there is none."""

    request_id: str
    session_id: str | None
    integration_type: IntegrationType
    integration_key: str = ""
    user_id: str
    status: Literal["completed", "failed"]
    agent_id: str | None
    content: str | None
    error: Failure | None
    completed_at: datetime


MODELS: Mapping[str, type[_Data]] = {
    REQUEST_CREATED: NormalizedRequest,
    SESSION_CREATED: SessionReady,
    SESSION_UPDATED: SessionReady,
    RESPONSE_READY: ResponseReady,
}
M = TypeVar("M", bound=_Data)


def make(
    function: str,
    event_type: str,
    event_id: str,
    data: _Data,
    *,
    request_id: str,
    session_id: str | None,
    integration: str,
    partition_key: str,
    time: datetime,
    traceparent: str | None,
) -> CloudEvent:
    """An event of ours. Nothing in it depends on when or where it is made: the same arguments give the same event."""
    attributes: dict[str, Any] = {
        "type": event_type,
        "source": f"/self-service-agent/{function}",
        "id": event_id,
        "time": time.isoformat().replace("+00:00", "Z"),
        "subject": request_id,
        "datacontenttype": "application/json",
        "dataschema": f"urn:self-service-agent:schema:{event_type.removeprefix(PREFIX)}:1",
        "requestid": request_id,
        "integration": integration,
        "partitionkey": partition_key,
    }
    if session_id:
        attributes["sessionid"] = session_id
    if traceparent:
        attributes["traceparent"] = traceparent
    return CloudEvent(attributes, data.model_dump_json(exclude_none=False).encode())


def session_ready(recorded: Mapping[str, Any]) -> CloudEvent:
    """The session.created or session.updated event of a recorded request, from what the SQL function record_request gives.

    Its source is always session-upsert: whoever sends it again sends the same event.
    """
    request = NormalizedRequest.model_validate(recorded["request"])
    opened = recorded["outcome"] == "created"
    session = Session(session_id=recorded["session_id"], opened=opened)
    return make(
        "session-upsert",
        SESSION_CREATED if opened else SESSION_UPDATED,
        f"{request.request_id}.session",
        SessionReady(session=session, request=request),
        request_id=request.request_id,
        session_id=session.session_id,
        integration=request.integration_type,
        partition_key=request.conversation_key,
        time=when(recorded["recorded_at"]),
        traceparent=request.traceparent,
    )


def response_ready(function: str, answer: Mapping[str, Any]) -> CloudEvent:
    """The agent.response-ready event of a finished request, from the row's `answer` (SQL function answer_of)."""
    data = ResponseReady.model_validate(answer)
    suffix = "response" if data.status == "completed" else "failed"
    return make(
        function,
        RESPONSE_READY,
        f"{data.request_id}.{suffix}",
        data,
        request_id=data.request_id,
        session_id=data.session_id,
        integration=data.integration_type,
        partition_key=answer["conversation_key"],
        time=data.completed_at.astimezone(UTC),
        traceparent=answer.get("traceparent"),
    )


def label_of(event_type: str) -> str:
    """The type as a metric's label: ours by name, any other as `other`, so that made-up types make no new series."""
    return event_type if event_type in MODELS else "other"


def read(event: CloudEvent | None, *types: str) -> CloudEvent:
    """The event of a delivery, if it is one of `types`.

    Raises Malformed when there is none or it is of another type: a broker never has to try that again.
    """
    if event is None:
        raise Malformed("The request carries no CloudEvent with id, source, type and specversion.")
    if event["type"] not in types:
        raise Malformed("This function does not handle events of that type.")
    return event


def data_of(event: CloudEvent, model: type[M]) -> M:
    """The event's data as `model`.

    Raises Malformed naming the fields that are missing or wrong, never their values.
    """
    try:
        return model.model_validate(event.data)
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, one["loc"])) or "data" for one in error.errors()}))
        raise Malformed(f"The event's data are not those of its type; wrong or missing: {fields[:500]}.") from None


def from_request(request: Request) -> CloudEvent | None:
    """The CloudEvent that a request carries, in binary or structured mode; None when it carries none.

    In binary mode, which brokers use, by the headers themselves: the SDK's from_http gives the same, and takes ten times as
    long.
    """
    environ, body = request.environ, request.get_data()
    if environ.get("HTTP_CE_SPECVERSION") != "1.0":
        return _by_sdk(request, body)
    attributes = {name[8:].lower(): value for name, value in environ.items() if name.startswith("HTTP_CE_")}
    if not all(attributes.get(name) for name in ("id", "source", "type")):
        return None
    if content_type := environ.get("CONTENT_TYPE"):
        attributes["datacontenttype"] = content_type
    return CloudEvent(attributes, _json_or_text(body) if body else None)


def _by_sdk(request: Request, body: bytes) -> CloudEvent | None:
    try:
        return from_http(request.headers, body)
    except (GenericException, ValueError, TypeError, AttributeError):  # what it raises for JSON of another shape
        return None


def _json_or_text(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError:
        return body


def to_http(event: CloudEvent) -> tuple[dict[str, str], bytes]:
    """An event of ours in binary mode: HTTP headers and body (CloudEvents HTTP protocol binding, section 3.1).

    The SDK's to_binary does the same for any event and data, and takes longer than making the event does. Values that HTTP
    headers cannot carry are percent-encoded (section 3.1.3.2).
    """
    headers = {"ce-" + name: str(value) for name, value in event.get_attributes().items() if name != "datacontenttype"}
    headers["content-type"] = str(event.get("datacontenttype", "application/json"))
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            headers[name] = quote(value, safe=_HEADER_SAFE)
    return headers, event.data


def when(text: str) -> datetime:
    """A point in time as the database writes it in JSON, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


_HEADER_SAFE = "!#$&'()*+,-./:;<=>?@[]^_`{|}~"
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent(header: str | None) -> str:
    """The caller's trace context if it is a valid one, else a new one (W3C Trace Context, version 00)."""
    if header and _TRACEPARENT.fullmatch(header):
        return header
    # As OpenTelemetry makes its ids: they have to be unique, not secret, and the system's random source is a system call.
    return f"00-{randrange(1, 1 << 128):032x}-{randrange(1, 1 << 64):016x}-01"  # noqa: S311
