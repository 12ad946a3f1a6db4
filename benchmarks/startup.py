"""From the start of a function's process until it answers, beside `python -c "import parliament"`; what importing takes."""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

from benchmarks import imports
from benchmarks.processes import free_port, process, python
from benchmarks.results import Line
from tests.parts.postgres import Postgres

ROUNDS = 5
_SLOW_ROUNDS = 2  # without bytecode everything takes seconds
_BUDGET = 2.5
_MOST = 3  # packages named for each function


def measure(rounds: int = ROUNDS) -> list[Line]:
    """Every function, in turns with the bare import; the median of the ratios."""
    sink = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="bench-startup-") as folder,
        process(python("-m", "benchmarks.sink", str(sink)), f"http://127.0.0.1:{sink}/"),
        closing(Postgres(Path(folder) / "db")) as postgres,
    ):
        environment = {
            **postgres.environment(),
            "BROKER_URL": f"http://127.0.0.1:{sink}/",
            "AUTH_MODE": "none",
            "LLAMA_STACK_URL": f"http://127.0.0.1:{sink}",
        }
        lines = [_ready(name, environment, rounds) for name in imports.FUNCTIONS]
        # A directory for bytecode that stays empty: nothing that was compiled before is found, not even the libraries'.
        bare = {"PYTHONPYCACHEPREFIX": str(Path(folder) / "empty"), "PYTHONDONTWRITEBYTECODE": "1"}
        for name in imports.FUNCTIONS:
            lines += _imports(name, rounds, bare)
        return lines


def _ready(name: str, environment: dict[str, str], rounds: int) -> Line:
    ratios = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run(python("-c", "import parliament"), check=True)
        bare = time.perf_counter() - started
        port = free_port()
        started = time.perf_counter()
        command = python("-m", "common.host", f"functions/{name}")
        with process(command, f"http://127.0.0.1:{port}/health/readiness", {**environment, "PORT": str(port)}):
            ratios.append((time.perf_counter() - started) / bare)
    return Line(f"{name}: start to ready / import parliament", median(ratios), "×", _BUDGET, floor=1)


def _imports(name: str, rounds: int, without_bytecode: dict[str, str]) -> list[Line]:
    """How long the imports take, CPU time, so that others on the machine do not count; and what most of it is."""
    usual = median(imports.seconds(name) for _ in range(rounds))
    compiled_now = median(imports.seconds(name, without_bytecode) for _ in range(_SLOW_ROUNDS))
    packages = [imports.by_package(name) for _ in range(rounds)]
    cost = {one: median(took.get(one, 0.0) for took in packages) for one in packages[0]}
    most = sorted(cost, key=lambda one: -cost[one])[:_MOST]
    return [
        Line(f"{name}: imports, CPU", usual * 1000, "ms"),
        Line(f"{name}: imports without bytecode, of those with", compiled_now / usual, "×"),
        Line(f"{name}: of that {', '.join(most)}", 100 * sum(cost[one] for one in most) / sum(cost.values()), "%"),
    ]
