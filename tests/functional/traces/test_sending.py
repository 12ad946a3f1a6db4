"""Sending spans: a collector that is away costs no request anything; the last spans are sent at the end."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable

from tests.functional.traces.support import WEB, ask
from tests.parts.collector import Collector, traceparent
from tests.parts.events import PREFIX
from tests.parts.functions import Function
from tests.parts.net import free_port
from tests.parts.recorder import Recorder
from tests.parts.samples import settings_of_ingest
from tests.platform.support import until


class TestACollectorThatIsAway:
    def test_that_comes_back_is_told_what_happened_meanwhile(
        self, recorder: Recorder, serve: Callable[..., Function]
    ) -> None:
        recorder.clear()
        port, trace = free_port(), uuid.uuid4().hex
        away = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": "50"}
        function = serve("ingest-web", {**settings_of_ingest(recorder.url), **away})
        assert ask(function, traceparent=traceparent(trace)).status == 202
        until(lambda: "Transient error" in function.output(), "the function has found nobody there")

        back = Collector(port)
        back.wait(trace, lambda spans: len(spans) == 2)
        back.close()

    def test_that_never_answers_keeps_nobody_waiting(self, recorder: Recorder, serve: Callable[..., Function]) -> None:
        # GIVEN a collector that takes an export and says nothing, and a queue for spans that is soon full
        recorder.clear()
        hanging = Collector()
        hanging.silent.set()
        small = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
        function = serve("ingest-web", {**settings_of_ingest(recorder.url), **hanging.environment, **small})

        # WHEN more is asked than the queue holds THEN all are answered, although no export has ended
        assert [ask(function).status for _ in range(40)] == [202] * 40
        assert len(recorder.events) == 40
        assert hanging.spans() == []

        # AND the process ends all the same, and says what was lost
        assert function.stop(seconds=10) == 0
        assert "the last spans could not be sent in time" in function.output()
        hanging.close()


def test_a_function_that_ends_sends_its_last_spans(recorder: Recorder, serve: Callable[..., Function]) -> None:
    recorder.clear()
    collector, trace = Collector(), uuid.uuid4().hex
    patient = {**collector.environment, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    function = serve("ingest-web", {**settings_of_ingest(recorder.url), **patient})
    assert ask(function, traceparent=traceparent(trace)).status == 202
    assert collector.spans() == []
    function.process.send_signal(signal.SIGTERM)
    assert function.process.wait(10) == 0
    assert [span.name for span in collector.spans(trace)] == [f"POST {WEB}", f"publish {PREFIX}request.created"]
    collector.close()
