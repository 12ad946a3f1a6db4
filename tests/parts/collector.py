"""An OpenTelemetry collector, as far as a function sees one: it takes OTLP over HTTP and keeps the spans."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Raw
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Span:
    """A span as it arrived. Ids are hexadecimal; `parent` is "" for the first of a trace; times are in ns."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: tuple[str, ...]
    started: int
    ended: int
    raw: bytes


class Collector:
    """Keeps the spans that come; `environment` is what a function needs to send here. While `silent` it answers nobody."""

    def __init__(self, port: int = 0) -> None:
        self.silent = threading.Event()
        self._spans: list[Span] = []
        self._arrived = threading.Condition()
        self._open = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                if collector.silent.is_set():
                    collector._open.wait()
                else:
                    collector._keep(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Tests read the spans instead."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _keep(self, body: bytes) -> None:
        found = [
            _span(raw, _attributes(sent.resource.attributes))
            for sent in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in sent.scope_spans
            for raw in scope.spans
        ]
        with self._arrived:
            self._spans += found
            self._arrived.notify_all()

    def spans(self, trace: str | None = None) -> list[Span]:
        """Every span that came, or those of one trace, by the time they began."""
        with self._arrived:
            found = [span for span in self._spans if trace in (None, span.trace)]
        return sorted(found, key=lambda span: span.started)

    def wait(self, trace: str, enough: Callable[[list[Span]], bool], seconds: float = 20) -> list[Span]:
        """Wait until what came of a trace is enough; all of it."""
        with self._arrived:
            came = self._arrived.wait_for(lambda: enough([one for one in self._spans if one.trace == trace]), seconds)
        found = self.spans(trace)
        assert came, f"of trace {trace} came only {[(span.service, span.name) for span in found]}"
        return found

    def close(self) -> None:
        """Stop answering; the port is free afterwards."""
        self._open.set()
        self._server.shutdown()
        self._server.server_close()


def traceparent(trace: str, parent: str = "00f067aa0ba902b7", *, sampled: bool = True) -> str:
    """A caller's trace context (W3C Trace Context)."""
    return f"00-{trace}-{parent}-{'01' if sampled else '00'}"


def _span(raw: Raw, resource: dict[str, Any]) -> Span:
    return Span(
        service=resource["service.name"],
        name=raw.name,
        kind=Raw.SpanKind.Name(raw.kind).removeprefix("SPAN_KIND_"),
        trace=raw.trace_id.hex(),
        id=raw.span_id.hex(),
        parent=raw.parent_span_id.hex(),
        failed=raw.status.code == Status.STATUS_CODE_ERROR,
        attributes=_attributes(raw.attributes),
        resource=resource,
        links=tuple(link.trace_id.hex() for link in raw.links),
        started=raw.start_time_unix_nano,
        ended=raw.end_time_unix_nano,
        raw=raw.SerializeToString(),
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
