"""The whole platform in front of the instant agent, as several parts measure it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.processes import HTTP, free_port, process, python


@dataclass(frozen=True)
class Platform:
    """A running platform: its front door, its state directory, and the agent's address."""

    url: str
    state: Path
    stack: str

    def describe(self) -> dict[str, Any]:
        """GET /_platform."""
        found: dict[str, Any] = HTTP.request("GET", f"{self.url}/_platform", headers={"accept": "application/json"}).json()
        return found

    def pids(self) -> dict[str, int]:
        """The processes of the functions, by name."""
        return {name: part["pid"] for name, part in self.describe()["functions"].items()}

    def connect(self) -> psycopg.Connection[Any]:
        """A connection to the database, in autocommit."""
        return psycopg.connect(self.describe()["database"]["url"], autocommit=True)

    def load(self, clients: int, requests: int, *options: str) -> dict[str, Any]:
        """Have that many clients ask, in a process of its own; what benchmarks.load prints."""
        command = python("-m", "benchmarks.load", self.url, str(clients), str(requests), *options)
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"the load was not answered:\n{ran.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(ran.stdout)
        return found


@contextmanager
def platform(*stack_options: str, **environment: str) -> Iterator[Platform]:
    """Run it, with the agent's options (benchmarks.instant_stack) and more settings for the functions."""
    stack, door = free_port(), free_port()
    found = f"http://127.0.0.1:{door}", f"http://127.0.0.1:{stack}"
    with tempfile.TemporaryDirectory(prefix="bench-") as state:
        settings = {"PORT": str(door), "STATE_DIR": state, "LLAMA_STACK_URL": found[1], "LOG_LEVEL": "INFO", **environment}
        with (
            process(python("-m", "benchmarks.instant_stack", str(stack), *stack_options), f"{found[1]}/v1/health"),
            process(python("-m", "infra.local"), f"{found[0]}/health", settings),
        ):
            yield Platform(found[0], Path(state), found[1])
