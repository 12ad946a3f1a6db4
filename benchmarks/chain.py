"""The whole chain with an instant agent: requests a second, latency, CPU and memory of every process."""

from __future__ import annotations

import json
import subprocess
import tempfile
from statistics import median
from typing import Any

import psycopg

from benchmarks.processes import HTTP, free_port, process, python, resident_mb, tree_cpu_seconds
from benchmarks.results import Line

CLIENTS = (1, 8, 32, 64)
ROUNDS = 3
_AGENT_MB, _FUNCTION_MB = 110.0, 70.0


def measure(rounds: int = ROUNDS) -> list[Line]:
    """Run the platform in front of an instant agent. Raises RuntimeError when a request was not answered."""
    stack, door = free_port(), free_port()
    url = f"http://127.0.0.1:{door}"
    with (
        tempfile.TemporaryDirectory() as state,
        process(python("-m", "benchmarks.instant_stack", str(stack)), f"http://127.0.0.1:{stack}/v1/health"),
        process(
            python("-m", "infra.local"),
            f"{url}/health",
            {"PORT": str(door), "STATE_DIR": state, "LLAMA_STACK_URL": f"http://127.0.0.1:{stack}", "LOG_LEVEL": "INFO"},
        ),
    ):
        _load(url, 8, 300)  # warm: connections, prepared statements, code
        lines = []
        for clients in CLIENTS:
            runs = [_load(url, clients, 150 if clients == 1 else 800) for _ in range(rounds)]
            figures = {name: median(run[name] for run in runs) for name in runs[0]}
            best = clients == 64
            lines.append(
                Line(f"{clients:>2} clients: requests/s", figures["rate"], "req/s", 200 if best else None, at_most=False)
            )
            budget = 20.0 if clients == 1 else None
            lines.append(Line(f"{clients:>2} clients: p50", figures["p50"], "ms", budget))
            lines.append(Line(f"{clients:>2} clients: p99", figures["p99"], "ms"))
        return [*lines, *_costs(url)]


def _load(url: str, clients: int, requests: int) -> dict[str, float]:
    ran = subprocess.run(
        python("-m", "benchmarks.load", url, str(clients), str(requests)), check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def _costs(url: str) -> list[Line]:
    """CPU per request by process, statements per request, memory, over one more run."""
    requests = 1000
    description: dict[str, Any] = HTTP.request("GET", f"{url}/_platform").json()
    pids = {name: part["pid"] for name, part in description["functions"].items()}
    others = {"broker stand-in": description["broker"]["pid"], "PostgreSQL": description["database"]["pid"]}
    before = {name: tree_cpu_seconds(pid) for name, pid in {**pids, **others}.items()}
    with psycopg.connect(description["database"]["url"], autocommit=True) as connection:
        commits = _commits(connection)
        _load(url, 16, requests)
        done = _commits(connection) - commits
    used = {name: (tree_cpu_seconds(pid) - before[name]) * 1000 / requests for name, pid in {**pids, **others}.items()}
    lines = [Line("CPU of our functions per request", sum(used[name] for name in pids), "ms", 8)]
    lines += [Line(f"CPU of {name}", used[name], "ms") for name in used if used[name] >= 0.01]
    lines.append(Line("commits per request, with one read by the waiting client", done / requests, ""))
    for name, pid in pids.items():
        lines.append(
            Line(f"memory of {name}", resident_mb(pid), "MB", _AGENT_MB if name == "agent-invoke" else _FUNCTION_MB)
        )
    return lines


def _commits(connection: psycopg.Connection[Any]) -> int:
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").fetchone()
    return int(row[0]) if row else 0
