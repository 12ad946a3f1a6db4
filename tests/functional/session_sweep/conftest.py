"""session-sweep and session-upsert, each in its own process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.session_sweep.support import Sweeping
from tests.parts.functions import Function, running
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder


@pytest.fixture(scope="module")
def functions(postgres_server: Postgres, recorder: Recorder) -> Iterator[dict[str, Function]]:
    settings = {**postgres_server.environment(), "BROKER_URL": recorder.url, "SWEEP_BATCH": "10", "SWEEP_BATCHES": "3"}
    with running(("session-sweep", "session-upsert"), settings) as started:
        yield started


@pytest.fixture
def sweeping(functions: dict[str, Function], postgres: Postgres, recorder: Recorder) -> Sweeping:
    recorder.clear()
    return Sweeping(functions, postgres, recorder)
