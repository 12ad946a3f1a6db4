"""From the start of a function's process until it answers, beside `python -c "import parliament"`."""

from __future__ import annotations

import subprocess
import tempfile
import time
from statistics import median

from benchmarks.processes import ROOT, free_port, process, python
from benchmarks.results import Line
from tests.parts.postgres import Postgres

ROUNDS = 5
FUNCTIONS = sorted(path.parent.name for path in ROOT.glob("functions/*/func.py"))
_BUDGET = 2.5


def measure(rounds: int = ROUNDS) -> list[Line]:
    """Every function, in turns with the bare import; the median of the ratios."""
    sink = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        process(python("-m", "benchmarks.sink", str(sink)), f"http://127.0.0.1:{sink}/"),
    ):
        postgres = Postgres(ROOT.__class__(folder) / "db")
        try:
            environment = {
                **postgres.environment(),
                "BROKER_URL": f"http://127.0.0.1:{sink}/",
                "AUTH_MODE": "none",
                "LLAMA_STACK_URL": f"http://127.0.0.1:{sink}",
            }
            return [_line(name, environment, rounds) for name in FUNCTIONS]
        finally:
            postgres.close()


def _line(name: str, environment: dict[str, str], rounds: int) -> Line:
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
    return Line(f"{name}: start to ready / import parliament", median(ratios), "×", _BUDGET)
