"""The whole chain with an instant agent: requests a second, latency, CPU and memory of every process; every id verified."""

from __future__ import annotations

import os
from collections.abc import Mapping
from statistics import median
from typing import Any

import psycopg

from benchmarks import plot
from benchmarks.platform import Platform, platform
from benchmarks.processes import ROOT, busy_seconds, resident_mb, tree_cpu_seconds
from benchmarks.results import Line

CLIENTS = (1, 8, 32, 64)
ROUNDS = 3
PLOT = ROOT / ".state" / "bench" / "chain.svg"
_AGENT_MB, _FUNCTION_MB = 110.0, 70.0
_CPU_BUDGET, _RATE_BUDGET, _P50_BUDGET = 8.0, 200.0, 20.0
_SHOWN_MS = 0.05  # a process that uses less for a request has no line
_LATENCIES = ("p50", "p95", "p99")


def measure(rounds: int = ROUNDS) -> list[Line]:
    """Run the platform in front of an instant agent.

    Raises RuntimeError when a request was not answered, or when the database has another number of rows or answers.
    """
    with platform() as running:
        running.load(8, 300)  # warm: connections, prepared statements, code
        runs = {clients: [_run(running, clients) for _ in range(rounds)] for clients in CLIENTS}
        found = {
            clients: {
                name: median(run[name] for run in those) for name in sorted(set().union(*those)) if _in_all(name, those)
            }
            for clients, those in runs.items()
        }
        plot.chain(PLOT, found)
        again = sum(run["again"] for those in runs.values() for run in those)
        return [
            *(line for clients, figures in found.items() for line in _lines(clients, figures)),
            Line("calls of the agent beyond one a request, in all of these", again, "", 0),
            *_memory(running),
        ]


def _run(running: Platform, clients: int) -> dict[str, float]:
    """One load: its rate, latencies, and milliseconds of CPU for a request by process."""
    pids = running.pids()
    description = running.describe()
    pids |= {"broker stand-in": description["broker"]["pid"], "PostgreSQL": description["database"]["pid"]}
    before = {name: tree_cpu_seconds(pid) for name, pid in pids.items()}
    with running.connect() as connection:
        rows = _rows(connection)
        busy = busy_seconds()
        asked = running.load(clients, 150 if clients == 1 else 800)
        busy = busy_seconds() - busy
        used = {name: tree_cpu_seconds(pid) - before[name] for name, pid in pids.items()}
        again = _verify(connection, asked["ids"], rows)
    requests = len(asked["ids"])
    cpu = {f"CPU of {name}": seconds * 1000 / requests for name, seconds in used.items()}
    ours = sum(cpu[f"CPU of {name}"] for name in description["functions"])
    # What both cores can do at most, were they never idle: everything on the machine counts, the clients too.
    floor = (os.cpu_count() or 1) * requests / busy
    return {
        "rate": asked["rate"],
        "floor": floor,
        "again": again,
        **{name: asked[name] for name in _LATENCIES},
        "CPU of our functions": ours,
        **cpu,
    }


def _verify(connection: psycopg.Connection[Any], ids: list[str], rows_before: int) -> int:
    """Each id was asked once and has one row with an answer, and there are no other rows.

    How often the agent was asked beyond once a request: it failed, and the broker brought the turn again.
    """
    row = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE status = 'completed' AND response_content <> ''), sum(model_calls)"
        " FROM request_logs WHERE request_id = ANY(%s)",
        (ids,),
    ).fetchone()
    more = _rows(connection) - rows_before
    if row is None or len(set(ids)) != len(ids) or row[:2] != (len(ids), len(ids)) or more != len(ids):
        raise RuntimeError(
            f"{len(ids)} asked, {len(set(ids))} ids; rows, answers, calls of the agent: {row}; new rows: {more}"
        )
    return int(row[2]) - len(ids)


def _rows(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT count(*) FROM request_logs").fetchone()
    assert row is not None
    return int(row[0])


def _in_all(name: str, runs: list[dict[str, float]]) -> bool:
    return all(name in run for run in runs)


def _lines(clients: int, figures: Mapping[str, float]) -> list[Line]:
    name = f"{clients} client{'s' if clients > 1 else ''}"
    rate = _RATE_BUDGET if clients == CLIENTS[-1] else None
    lines = [
        Line(
            f"{name}: requests/s",
            figures["rate"],
            "req/s",
            rate,
            at_most=False,
            floor=figures["floor"] if clients > 1 else None,
        )
    ]
    for one in _LATENCIES:
        lines.append(Line(f"{name}: {one}", figures[one], "ms", _P50_BUDGET if (clients, one) == (1, "p50") else None))
    lines.append(Line(f"{name}: CPU of our functions for a request", figures["CPU of our functions"], "ms", _CPU_BUDGET))
    lines += [
        Line(f"{name}: {one}", value, "ms")
        for one, value in figures.items()
        if one.startswith("CPU of ") and one != "CPU of our functions" and value >= _SHOWN_MS
    ]
    return lines


def _memory(running: Platform) -> list[Line]:
    return [
        Line(f"memory of {name}", resident_mb(pid), "MB", _AGENT_MB if name == "agent-invoke" else _FUNCTION_MB)
        for name, pid in running.pids().items()
    ]
