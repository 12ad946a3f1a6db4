"""Sending spans: in batches, by a thread of its own, by OTLP over HTTP to where OTEL_EXPORTER_OTLP_* says."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

log = logging.getLogger(__name__)

PROJECT = "self-service-agent"
CLOSE_SECONDS = 3.0  # for the last spans, of the 5 s that a pod has left after draining (infra/deploy/table.py)


class _Sender(SpanExporter):
    """OpenTelemetry's own exporter, which takes longer to import than all the rest of it.

    The thread that sends imports it, when it first has something to send: a cold start does not wait for that.
    """

    def __init__(self) -> None:
        self._exporter: SpanExporter | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        if self._exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            self._exporter = OTLPSpanExporter()
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        """Send no more."""
        if self._exporter is not None:
            self._exporter.shutdown()


class Export:
    """The way out for the spans of a function. `tracer` begins them; whether one is recorded OTEL_TRACES_SAMPLER says."""

    def __init__(self, function: str) -> None:
        release = version(f"{PROJECT}-common")
        # Beside what OTEL_RESOURCE_ATTRIBUTES says, and before OTEL_SERVICE_NAME.
        resource = {"service.name": function, "service.namespace": PROJECT, "service.version": release}
        self._provider = TracerProvider(resource=Resource.create(resource), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Sender()))
        self.tracer = self._provider.get_tracer(f"{PROJECT}-common", release)

    def close(self) -> None:
        """Send the last spans; gives up after CLOSE_SECONDS, as a collector that is away must not keep a pod from ending."""
        last = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(CLOSE_SECONDS)
        if last.is_alive():
            log.warning("the last spans could not be sent in time", extra={"seconds": CLOSE_SECONDS})
