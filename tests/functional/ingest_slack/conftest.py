"""ingest-slack in its own process, and Slack in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parts.functions import Function
from tests.parts.recorder import Recorder
from tests.parts.samples import settings_of_ingest
from tests.parts.slack import Slack


@pytest.fixture(scope="module")
def function(recorder: Recorder) -> Iterator[Function]:
    running = Function("ingest-slack", settings_of_ingest(recorder.url))
    yield running
    running.close()


@pytest.fixture
def slack(function: Function, recorder: Recorder) -> Slack:
    recorder.clear()
    return Slack(function.url)
