"""Traces by OpenTelemetry: the hooks in the seams, one line each.

They do nothing, and nothing of OpenTelemetry is imported, until `switch_on` finds it asked for: by OTEL_TRACES_EXPORTER=otlp
or an endpoint in OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT. What a span may say is in
common/tracing_otel.py; docs/tracing.md lists it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from common import settings
from common.errors import SettingError

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent
    from flask import Request

log = logging.getLogger(__name__)

PROTOCOL = "http/protobuf"
Fact = str | int | float | bool | tuple[str, ...] | None


class Span:
    """What a hook gives, for `with`. This one does nothing; every hook gives the same one while traces are off."""

    __slots__ = ()

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        return None

    def note(self, **facts: Fact) -> None:
        """Say how it went: `status` (of HTTP), `error` (a code), or another fact of tracing_otel.FACTS. None is left out."""

    def timed(self, write: Callable[[str], None]) -> Callable[[str], None]:
        """Give `write` with its first call timed, as the first piece of an answer."""
        return write


class Tracer(Protocol):
    """What makes spans once traces are on; the functions of this module say what each is for."""

    def handling(self, request: Request, event: CloudEvent | None) -> Span:
        """See the function `handling`."""

    def statement(self, name: str, connection: Mapping[str, Any]) -> Span:
        """See the function `statement`."""

    def publishing(self, event: CloudEvent) -> Span:
        """See the function `publishing`."""

    def turn(self, agent: str, session_id: str) -> Span:
        """See the function `turn`."""

    def model_call(self, model: str, agent: str, *, streamed: bool) -> Span:
        """See the function `model_call`."""

    def posting(self, url: str, path: str | None) -> Span:
        """See the function `posting`."""

    def traceparent(self) -> str | None:
        """See the function `traceparent`."""

    def close(self) -> None:
        """See the function `close`."""


OFF = Span()
_tracer: Tracer | None = None


def switch_on(function: str) -> None:
    """Begin to make spans, as those of `function`, if the environment asks for them; the host calls this once.

    Where the package is missing one line says so, and the function runs without: OTEL_* is often set for a whole namespace,
    and what only watches must not keep a request from being answered. Raises SettingError for a value that cannot be used.
    """
    global _tracer
    if not _wanted():
        return
    try:
        from common import tracing_otel
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        log.warning("OTEL_* asks for traces, but the extra `otel` of common is not installed (docs/tracing.md)")
        return
    _tracer = tracing_otel.Tracer(function)


def close() -> None:
    """Send what is not sent yet, within a few seconds; after the last request."""
    if _tracer is not None:
        _tracer.close()


def handling(request: Request, event: CloudEvent | None) -> Span:
    """The function handles a request (SERVER) or a delivery of an event (CONSUMER, in the event's trace)."""
    return OFF if _tracer is None else _tracer.handling(request, event)


def statement(name: str, connection: Mapping[str, Any]) -> Span:
    """A statement of queries.sql (CLIENT), with the wait for a connection. Outside of a request or event there is none."""
    return OFF if _tracer is None else _tracer.statement(name, connection)


def publishing(event: CloudEvent) -> Span:
    """An event is sent to the broker (PRODUCER)."""
    return OFF if _tracer is None else _tracer.publishing(event)


def turn(agent: str, session_id: str) -> Span:
    """A turn of a session, which `agent` begins (GenAI: `invoke_agent`)."""
    return OFF if _tracer is None else _tracer.turn(agent, session_id)


def model_call(model: str, agent: str, *, streamed: bool) -> Span:
    """One call of the model (CLIENT; GenAI: `chat`)."""
    return OFF if _tracer is None else _tracer.model_call(model, agent, streamed=streamed)


def posting(url: str, path: str | None = None) -> Span:
    """A POST to somebody else (CLIENT). Only the host of `url` is told; `path` only where it is known to hold no secret."""
    return OFF if _tracer is None else _tracer.posting(url, path)


def traceparent() -> str | None:
    """The current span as the parent of what follows from it (W3C Trace Context); None while traces are off."""
    return None if _tracer is None else _tracer.traceparent()


def _wanted() -> bool:
    """Whether the environment asks for traces.

    Raises SettingError when it asks for what is not there: another exporter or protocol, an endpoint that is no URL.
    """
    if settings.choice("OTEL_SDK_DISABLED", "false", ("true", "false")) == "true":
        return False
    endpoints = [
        settings.optional("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") and settings.url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        settings.optional("OTEL_EXPORTER_OTLP_ENDPOINT") and settings.url("OTEL_EXPORTER_OTLP_ENDPOINT"),
    ]
    if settings.choice("OTEL_TRACES_EXPORTER", "otlp" if any(endpoints) else "none", ("otlp", "none")) == "none":
        return False
    chosen = settings.optional("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or settings.optional("OTEL_EXPORTER_OTLP_PROTOCOL")
    if chosen not in (None, PROTOCOL):
        raise SettingError(f"OTEL_EXPORTER_OTLP_PROTOCOL must be {PROTOCOL}: the function speaks no other")
    return True
