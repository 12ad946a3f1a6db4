"""Platforms with three real functions, the real broker and the real PostgreSQL; Llama Stack is said to be elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.platform.support import TOPOLOGY, HealthyServer, Platform

Start = Callable[..., Platform]


@pytest.fixture(scope="module")
def llama_stack() -> Iterator[str]:
    server = HealthyServer()
    yield server.url
    server.close()


@pytest.fixture(scope="module")
def start(llama_stack: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start platforms that end with the module: `start(state, name=value, …)`."""
    topology = tmp_path_factory.mktemp("topology") / "topology.yaml"
    topology.write_text(TOPOLOGY, encoding="utf-8")
    started: list[Platform] = []

    def one(state: Path, **environment: str) -> Platform:
        platform = Platform(state, {"LLAMA_STACK_URL": llama_stack} | environment, topology)
        started.append(platform)
        return platform

    yield one
    for platform in started:
        platform.close()


@pytest.fixture(scope="module")
def running(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A platform that is ready; its tests leave it running."""
    platform = start(tmp_path_factory.mktemp("running") / "state")
    platform.wait_ready()
    return platform
