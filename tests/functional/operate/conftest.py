"""The functions that a replayed event reaches, each in its own process."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.functional.operate.support import SECRET, Operating
from tests.parts.functions import Function, running
from tests.parts.llama import DemoModel
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder


@pytest.fixture(scope="module")
def hook() -> Iterator[Recorder]:
    """The webhook of the tool `snow`."""
    endpoint = Recorder()
    yield endpoint
    endpoint.close()


@pytest.fixture(scope="module")
def functions(
    postgres_server: Postgres, recorder: Recorder, hook: Recorder, llama_stack: str
) -> Iterator[dict[str, Function]]:
    settings = {
        **postgres_server.environment(),
        "BROKER_URL": recorder.url,
        "LLAMA_STACK_URL": llama_stack,
        "WEBHOOK_SECRETS": json.dumps({"snow": SECRET}),
        "WEBHOOK_URLS_ALLOWED": hook.url,
    }
    names = ("dead-letter", "session-upsert", "agent-invoke", "response-dispatch")
    with running(names, settings) as started:
        yield started


@pytest.fixture
def operating(
    functions: dict[str, Function], postgres: Postgres, recorder: Recorder, hook: Recorder, demo_model: DemoModel
) -> Operating:
    recorder.clear()
    hook.clear()
    hook.status = 204
    postgres.query(
        "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', 'snow', %s)",
        json.dumps({"webhook_url": hook.url, "secret_ref": "snow"}),  # pragma: allowlist secret
    )
    return Operating(functions, postgres, recorder, hook, demo_model)
