"""The four ingest functions, each in its own process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.ingest.support import INTEGRATIONS, Caller
from tests.parts.functions import Function, running
from tests.parts.recorder import Recorder
from tests.parts.samples import settings_of_ingest


@pytest.fixture(scope="module")
def functions(recorder: Recorder) -> Iterator[dict[str, Function]]:
    settings = settings_of_ingest(recorder.url)
    with running([f"ingest-{integration}" for integration in INTEGRATIONS], settings) as started:
        yield {integration: started[f"ingest-{integration}"] for integration in INTEGRATIONS}


@pytest.fixture(params=INTEGRATIONS)
def caller(request: pytest.FixtureRequest, functions: dict[str, Function], recorder: Recorder) -> Caller:
    return Caller(request.param, functions[request.param], recorder)
