"""The functions in their own processes, sending their traces to a collector."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional.traces.support import NAMES, SECRET, World
from tests.parts.collector import Collector
from tests.parts.functions import Function
from tests.parts.llama import DemoModel
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import settings_of_ingest


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.close()


@pytest.fixture(scope="package")
def outside() -> Iterator[Recorder]:
    """The broker, a webhook, Slack's API: wherever a function sends."""
    endpoint = Recorder()
    yield endpoint
    endpoint.close()


@pytest.fixture(scope="package")
def functions(
    postgres_server: Postgres, outside: Recorder, collector: Collector, llama_stack: str
) -> Iterator[dict[str, Function]]:
    settings = {
        **postgres_server.environment(),
        **settings_of_ingest(outside.url),
        **collector.environment,
        "OTEL_SERVICE_NAME": "whoever sets this for all of them",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "LLAMA_STACK_URL": llama_stack,
        "WEBHOOK_SECRETS": json.dumps({"snow": SECRET}),
        "WEBHOOK_URLS_ALLOWED": outside.url,
        "SLACK_BOT_TOKEN": "xoxb-a-secret-token",
        "SLACK_API_URL": outside.url + "slack/",
    }
    with ThreadPoolExecutor(2) as pool:
        started = dict(zip(NAMES, pool.map(lambda name: Function(name, settings), NAMES), strict=True))
    yield started
    for function in started.values():
        function.close()


@pytest.fixture
def world(
    functions: dict[str, Function], collector: Collector, outside: Recorder, postgres: Postgres, demo_model: DemoModel
) -> World:
    outside.clear()
    return World(functions, collector, outside, postgres, demo_model)
