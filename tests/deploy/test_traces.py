"""OpenTelemetry in an image: where `make vendor EXTRAS=otel` put it. An image without it answers all the same."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from infra.deploy import wheel as wheels
from tests.deploy.image import Container, Image, python
from tests.parts.collector import Collector, traceparent
from tests.parts.functions import ROOT
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, credentials, settings_of_ingest


def ask(container: Container, trace: str) -> None:
    body = json.dumps(BODIES["web"]).encode()
    headers = {"content-type": "application/json", "traceparent": traceparent(trace)}
    proof = credentials("web", body, BODIES["web"]["user_id"])
    assert container.call("POST", "/", body, {**headers, **proof}).status == 202


def test_an_image_with_the_extra_sends_traces(tmp_path: Path, recorder: Recorder) -> None:
    collector, trace = Collector(), uuid.uuid4().hex
    image = Image("ingest-web", wheels.build(ROOT, tmp_path / "wheel", ("otel",)), tmp_path, python())
    container = image.start({**settings_of_ingest(recorder.url), **collector.environment})
    try:
        ask(container, trace)
    finally:
        code = container.stop()
    assert code == 0
    assert {span.service for span in collector.spans(trace)} == {"ingest-web"}
    collector.close()

    pinned = {line.split("==")[0] for line in (image.directory / "constraints.txt").read_text().splitlines() if "==" in line}
    assert [name for name in image.installed() if name.startswith("opentelemetry")]
    assert set(image.installed()) <= pinned | {"self-service-agent-common"}


def test_an_image_without_it_that_is_asked_for_traces_says_so_and_answers(
    wheel: Path, tmp_path: Path, recorder: Recorder
) -> None:
    collector = Collector()
    container = Image("ingest-web", wheel, tmp_path, python()).start(
        {**settings_of_ingest(recorder.url), **collector.environment}
    )
    try:
        ask(container, uuid.uuid4().hex)
        warnings = [line for line in container.output().splitlines() if "extra `otel`" in line]
    finally:
        container.stop()
    assert len(warnings) == 1
    assert collector.spans() == []
    collector.close()


def test_an_extra_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(wheels.WheelError, match="common has no extra metrics"):
        wheels.build(ROOT, tmp_path, ("metrics",))
