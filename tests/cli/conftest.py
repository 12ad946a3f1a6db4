"""A running platform with the functions that a terminal's request goes through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.support import Person, Terminal
from tests.parts.llama import DemoModel
from tests.platform.support import Platform

_TOPOLOGY = """
event_prefix: com.self-service-agent
broker: {dead_letter: dead-letter}
functions:
  ingest-cli: {kind: ingest, paths: [/api/v1/requests/cli], threads: 4, needs: [broker]}
  session-upsert:
    {kind: event, wakes_on: [com.self-service-agent.request.created], threads: 4, needs: [database], delivery: &quick
      {retry: 8, backoffPolicy: exponential, backoffDelay: PT0.2S, timeout: PT30S}}
  agent-invoke:
    {kind: event, wakes_on: [com.self-service-agent.session.created, com.self-service-agent.session.updated], threads: 8,
     needs: [database, llama-stack],
     delivery: {retry: 100, backoffPolicy: linear, backoffDelay: PT0.1S, timeout: PT60S}}
  response-dispatch:
    {kind: event, wakes_on: [com.self-service-agent.agent.response-ready], threads: 4, needs: [database], delivery: *quick}
  dead-letter: {kind: event, wakes_on: [], threads: 2, needs: [database, broker]}
  request-status: {kind: read, paths: [/api/v1/requests, /api/v1/sessions], threads: 16, needs: [database]}
"""


@pytest.fixture(scope="package")
def platform(llama_stack: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One platform for all tests of the command."""
    directory = tmp_path_factory.mktemp("cli")
    topology = directory / "topology.yaml"
    topology.write_text(_TOPOLOGY, encoding="utf-8")
    running = Platform(directory / "state", {"LLAMA_STACK_URL": llama_stack}, topology)
    try:
        running.wait_ready()
        yield running
    finally:
        running.close()


@pytest.fixture
def ann(platform: Platform, demo_model: DemoModel, tmp_path: Path) -> Person:
    """A person whose home is empty, whom nobody knows yet, at a platform whose model is quick."""
    return Person(tmp_path / "home", platform.url, name=f"ann-{tmp_path.name}")


@pytest.fixture
def terminal(ann: Person) -> Iterator[Callable[..., Terminal]]:
    """Run the command on a terminal; it ends with the test."""
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        one = ann.terminal(*arguments)
        opened.append(one)
        return one

    yield start
    for one in opened:
        one.close()
