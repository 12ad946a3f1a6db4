"""What each span is called and says, by OpenTelemetry's semantic conventions. Imported only where traces are on.

Attributes are those that are written here and no others: ids, names, numbers, statuses. No body, no statement's parameter,
no header, no URL's path that could hold a secret, no exception's text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from cloudevents.http import CloudEvent
from flask import Request
from opentelemetry import context, trace
from opentelemetry.trace import Link, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from common import logs, tracing
from common.events import MODELS
from common.tracing import Fact
from common.tracing_export import Export

PROVIDER = "llama_stack"  # gen_ai.provider.name: what is called; which provider it asks in turn is in the model's name

# The facts of `Span.note`, and the attribute that each becomes.
FACTS = {
    "status": "http.response.status_code",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "finish_reasons": "gen_ai.response.finish_reasons",
    "first_chunk_seconds": "gen_ai.response.time_to_first_chunk",
    "handoffs": "self_service_agent.handoffs",
    "model_calls": "self_service_agent.model_calls",
    "tokens_estimated": "self_service_agent.tokens_estimated",
}
# The ids of the log lines that a span carries too.
_IDS = {"request_id": "self_service_agent.request_id", "session_id": "self_service_agent.session_id"}
_W3C = TraceContextTextMapPropagator()


class Span(tracing.Span):
    """A span, current from `with` on to its end. `is_error` says which HTTP statuses make it a failed one."""

    __slots__ = ("_failed", "_is_error", "_span", "_started", "_token")

    def __init__(self, span: trace.Span, is_error: Callable[[int], bool]) -> None:
        self._span = span
        self._is_error = is_error
        self._failed = False
        self._started = time.perf_counter()

    def __enter__(self) -> Span:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if error is not None and not self._failed:
            self._fail(_error_type(error))
        context.detach(self._token)
        self._span.end()

    def note(self, **facts: Fact) -> None:
        """Set the facts' attributes; an error, or a status that is one, makes the span a failed one."""
        for name, value in facts.items():
            if name == "error" and value:
                self._fail(str(value))
            elif value is not None:
                self._span.set_attribute(FACTS[name], value)
            if name == "status" and isinstance(value, int) and self._is_error(value):
                self._fail(str(value))

    def timed(self, write: Callable[[str], None]) -> Callable[[str], None]:
        """Note at the first call how long it took since the span began."""
        waiting = True

        def first(text: str) -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                self.note(first_chunk_seconds=time.perf_counter() - self._started)
            write(text)

        return first

    def _fail(self, kind: str) -> None:
        self._failed = True
        # No description and no exception event: an exception's text may quote what somebody wrote.
        self._span.set_status(StatusCode.ERROR)
        self._span.set_attribute("error.type", kind)


class _Handling(Span):
    """The span of a request or delivery: what is logged of it has the trace's id, and it has the ids of the log."""

    __slots__ = ()

    def __enter__(self) -> Span:
        logs.note_ids(trace_id=f"{self._span.get_span_context().trace_id:032x}")
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        known = logs.known_ids()
        for name, attribute in _IDS.items():
            if value := known.get(name):
                self._span.set_attribute(attribute, value)
        super().__exit__(kind, error, traceback)


class Tracer:
    """Makes a function's spans.

    Whether a trace is recorded is its caller's word (the sampled flag), or that of OTEL_TRACES_SAMPLER.
    """

    def __init__(self, function: str) -> None:
        self._export = Export(function)
        self._tracer = self._export.tracer

    def close(self) -> None:
        """See common.tracing."""
        self._export.close()

    def handling(self, request: Request, event: CloudEvent | None) -> Span:
        """See common.tracing."""
        if event is not None:
            parent = _remote(event.get("traceparent"))
            name, attributes = _message("process", "process", event)
            return _Handling(self._tracer.start_span(name, parent, SpanKind.CONSUMER, attributes), _is_failed_delivery)
        route = request.url_rule.rule if request.url_rule else "/"
        attributes = {
            "http.request.method": request.method,
            "http.route": route,
            "url.path": request.path,
            "url.scheme": request.scheme,
        }
        parent = _remote(request.headers.get("traceparent"))
        span = self._tracer.start_span(f"{request.method} {route}", parent, SpanKind.SERVER, attributes)
        return _Handling(span, _is_server_error)

    def statement(self, name: str, connection: Mapping[str, Any]) -> tracing.Span:
        """See common.tracing."""
        attributes = {
            "db.system.name": "postgresql",
            "db.namespace": connection["dbname"],
            "db.operation.name": name,
            "db.query.summary": name,
            "server.address": connection["host"],
            "server.port": connection["port"],
        }
        return self._inner(name, SpanKind.CLIENT, attributes)

    def publishing(self, event: CloudEvent) -> tracing.Span:
        """See common.tracing. A link leads to the event's own trace where that is another one (it is sent again)."""
        name, attributes = _message("publish", "send", event)
        created = trace.get_current_span(_remote(event.get("traceparent"))).get_span_context()
        is_other = created.trace_id != trace.get_current_span().get_span_context().trace_id
        return self._inner(name, SpanKind.PRODUCER, attributes, [Link(created)] if created.is_valid and is_other else [])

    def turn(self, agent: str, session_id: str) -> tracing.Span:
        """See common.tracing."""
        attributes = {**_gen_ai("invoke_agent", agent), "gen_ai.conversation.id": session_id}
        return self._inner(f"invoke_agent {agent}", SpanKind.INTERNAL, attributes)

    def model_call(self, model: str, agent: str, *, streamed: bool) -> tracing.Span:
        """See common.tracing."""
        attributes = {**_gen_ai("chat", agent), "gen_ai.request.model": model, "gen_ai.request.stream": streamed}
        if session_id := logs.known_ids().get("session_id"):
            attributes["gen_ai.conversation.id"] = session_id
        return self._inner(f"chat {model}", SpanKind.CLIENT, attributes)

    def posting(self, url: str, path: str | None) -> tracing.Span:
        """See common.tracing."""
        attributes: dict[str, AttributeValue] = {"http.request.method": "POST", **_server(url)}
        if path is not None:
            attributes["url.template"] = path
        return self._inner(f"POST {path}" if path else "POST", SpanKind.CLIENT, attributes)

    def traceparent(self) -> str | None:
        """See common.tracing."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get("traceparent")

    def _inner(
        self, name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue], links: list[Link] | None = None
    ) -> tracing.Span:
        """A span within the current one. Where none is recorded (a health check, a background thread) there is none."""
        if not trace.get_current_span().is_recording():
            return tracing.OFF
        return Span(self._tracer.start_span(name, None, kind, attributes, links), _is_client_error)


def _server(url: str) -> dict[str, AttributeValue]:
    """Host and port of a URL; nothing of one that is none: who sends to it says so."""
    try:
        target = urlsplit(url)
        return {
            "server.address": target.hostname or "",
            "server.port": target.port or (443 if target.scheme == "https" else 80),
        }
    except ValueError:
        return {}


def _remote(traceparent: str | None) -> context.Context:
    """The context that a traceparent names; an empty one, which begins a new trace, when it is missing or malformed."""
    return _W3C.extract({"traceparent": traceparent} if traceparent else {}, context.Context())


def _message(operation: str, kind: str, event: CloudEvent) -> tuple[str, dict[str, AttributeValue]]:
    """Name and attributes by the conventions for messaging and for CloudEvents; the event's type stands for the destination.

    A type that is none of ours is in no span's name: who can send events could make up any number of them.
    """
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "knative",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.message.id": event["id"],
        "cloudevents.event_id": event["id"],
        "cloudevents.event_source": event["source"],
        "cloudevents.event_spec_version": event["specversion"],
        "cloudevents.event_type": event["type"],
    }
    if subject := event.get("subject"):
        attributes["cloudevents.event_subject"] = subject
    if event["type"] not in MODELS:
        return operation, attributes
    attributes["messaging.destination.name"] = event["type"]
    return f"{operation} {event['type']}", attributes


def _gen_ai(operation: str, agent: str) -> dict[str, AttributeValue]:
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.agent.id": agent,
        "gen_ai.agent.name": agent,
    }


def _is_server_error(status: int) -> bool:
    return status >= 500


def _is_client_error(status: int) -> bool:
    return status >= 400


def _is_failed_delivery(status: int) -> bool:
    """What a broker does not take for handled, but for 409: that another delivery is at work is no failure."""
    return status >= 400 and status != 409


def _error_type(error: BaseException) -> str:
    """A database's SQLSTATE, the code of a turn that was refused, else the error's class."""
    for name in ("sqlstate", "code"):
        if isinstance(found := getattr(error, name, None), str):
            return found
    return type(error).__qualname__
