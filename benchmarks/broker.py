"""The broker stand-in by itself, from a publisher to a subscriber that does nothing: its cost is never ours.

Every request is three events in the chain, each taken, stored, delivered and, twice, answered with the next one.
"""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import post
from benchmarks.processes import HTTP, cpu_seconds, free_port, process, python
from benchmarks.results import Line
from tests.parts.events import PREFIX
from tests.parts.samples import request_data

ROUNDS, EVENTS = 3, 2000
_TABLE = {
    "event_prefix": "com.self-service-agent",
    "broker": {"dead_letter": "dead-letter"},
    "functions": {
        "session-upsert": {"kind": "event", "wakes_on": [PREFIX + "request.created"], "threads": 16},
        "dead-letter": {"kind": "event", "wakes_on": [], "threads": 2},
    },
}


def measure(rounds: int = ROUNDS) -> list[Line]:
    """Events a second through the broker, beside the same posts to the subscriber itself."""
    sink, broker = free_port(), free_port()
    at_sink, at_broker = f"http://127.0.0.1:{sink}", f"http://127.0.0.1:{broker}"
    with tempfile.TemporaryDirectory(prefix="bench-broker-") as folder:
        table = Path(folder) / "topology.yaml"
        table.write_text(json.dumps(_TABLE), encoding="utf-8")  # JSON is YAML
        command = ["--port", str(broker), "--store", f"{folder}/broker.sqlite", "--topology", str(table)]
        for name in _TABLE["functions"]:
            command += ["--subscriber", f"{name}={at_sink}"]
        with (
            process(python("-m", "benchmarks.sink", str(sink)), f"{at_sink}/"),
            process(python("-m", "infra.local.broker", *command), f"{at_broker}/health") as running,
        ):
            _through(at_broker, 200)
            runs = []
            for _ in range(rounds):
                used = cpu_seconds(running.pid)
                seconds = _through(at_broker, EVENTS)
                used = cpu_seconds(running.pid) - used
                runs.append((EVENTS / seconds, used * 1000 / EVENTS, post.rate(at_sink, _events(EVENTS))))
    figures = [median(run[place] for run in runs) for place in range(3)]
    return [
        Line("posts a second to the subscriber itself", figures[2], "1/s"),
        Line("events a second through the broker, published and delivered", figures[0], "1/s"),
        Line("CPU of the broker for an event", figures[1], "ms"),
        Line("CPU of the broker for a request of the chain (three events)", 3 * figures[1], "ms"),
    ]


def _through(url: str, count: int) -> float:
    """Seconds from the first publish until the last delivery."""
    delivered = _delivered(url)
    rate = post.rate(f"{url}/default/default", _events(count))
    published, deadline = time.monotonic(), time.monotonic() + 60
    while _delivered(url) < delivered + count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{_delivered(url) - delivered} of {count} events were delivered within a minute")
        time.sleep(0.01)  # the broker tells nobody that it has delivered everything
    return count / rate + time.monotonic() - published


def _delivered(url: str) -> int:
    stats: dict[str, Any] = HTTP.request("GET", f"{url}/_broker/stats").json()
    return int(stats["delivered"])


def _events(count: int) -> list[post.Call]:
    calls = []
    for _ in range(count):
        data = request_data(request_id=str(uuid.uuid4()))
        headers = {
            "ce-specversion": "1.0",
            "ce-id": data["request_id"],
            "ce-type": PREFIX + "request.created",
            "ce-source": "/self-service-agent/ingest-web",
            "content-type": "application/json",
        }
        calls.append(post.Call(json.dumps(data), headers))
    return calls
