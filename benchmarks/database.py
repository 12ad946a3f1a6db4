"""A million sessions and five million requests beside an empty database: the plans, and the time of each hot statement.

Both servers run at once and are asked in turns, one request here, one there, so that whatever else the machine does falls on
both.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks import big, plans
from benchmarks.plan_document import write as write_plans
from benchmarks.processes import ROOT, free_port, process, python
from benchmarks.results import Line
from common.database import load_queries
from tests.parts.events import PREFIX, event
from tests.parts.net import call
from tests.parts.postgres import Postgres

ROUNDS, REQUESTS, CALLS = 5, 500, 400
SMALL_SESSIONS = 500  # conversations that the "empty" database has: a service of the first morning
_DRAW = random.Random(6)  # noqa: S311 - which conversation is next
_ROOM = 16 * 1024**3  # bytes that the big database needs while it is made
_RESULT = {
    "status": "completed",
    "agent_id": "laptop-refresh",
    "content": "You can refresh your laptop after three years; which one do you have?",
    "metadata": {"usage": {"input_tokens": 500, "output_tokens": 60}, "handoffs": []},
    "model_calls": 1,
    "input_tokens": 500,
    "output_tokens": 60,
}


class Side:
    """One of the two databases, and the statements of the chain on it, as a function's connection runs them."""

    def __init__(self, postgres: Postgres, sessions: int) -> None:
        self.postgres = postgres
        self._sessions = sessions
        self._connection = postgres.connect()
        self._connection.prepare_threshold = 3
        self._queries = load_queries()
        self.took: dict[str, list[float]] = defaultdict(list)

    def request(self) -> dict[str, Any]:
        """A request of one of the active conversations, drawn at random."""
        number = 2 * _DRAW.randrange((self._sessions - big.OPEN_SESSIONS) // 2 if self._sessions else SMALL_SESSIONS)
        return {
            "request_id": str(uuid.uuid4()),
            "integration_type": big.type_of(number),
            "user_id": f"user{number}",
            "content": "I want to refresh my laptop, which one may I have?",
            "request_type": "message",
            "conversation_key": big.conversation(number),
            "accepted_at": datetime.now(UTC).isoformat(),
            "traceparent": f"00-{uuid.uuid4().hex}-b7ad6b7169203331-01",
            "metadata": {"client_ip": "192.168.1.1"},
            "context": {},
        }

    def one(self) -> None:
        """One request through the four statements of a web request."""
        request = self.request()
        key = request["request_id"]
        self._run("record_request", {"request": json.dumps(request), "event_id": key})
        claim = self._run("claim_turn", {"request_id": key, "owner": "bench", "lease": 15.0, "history": 20})
        ours = {"request_id": key, "owner": "bench", "fence": claim["fence"]}
        self._run("finish_turn", {**ours, "result": json.dumps(_RESULT)})
        self._run("get_request", {"request_id": key})

    def _run(self, name: str, parameters: dict[str, Any]) -> Any:
        started = time.perf_counter()
        row = self._connection.execute(self._queries[name], parameters).fetchone()
        self.took[name].append((time.perf_counter() - started) * 1000)
        assert row is not None
        return row[0]

    def close(self) -> None:
        """Close the connection and stop the server."""
        self._connection.close()
        self.postgres.close()


def measure(rounds: int = ROUNDS, sessions: int = big.SESSIONS) -> list[Line]:
    """Plans into docs/plans.md, and both databases' times. Raises RuntimeError for a plan that reads a big table whole."""
    with _sides(sessions) as (full, empty, seconds):
        lines = [Line(f"{sessions:,} sessions and {sessions * big.TURNS:,} requests were made in", seconds, "s")]
        found = plans.of_everything(full.postgres)
        write_plans(ROOT / "docs" / "plans.md", found, sessions, sessions * big.TURNS)
        lines.append(Line("hot statements that read a big table from end to end", len(plans.scans(found)), "", 0))
        lines += _statements(full, empty, rounds)
        lines += _function(full, empty, rounds)
    return lines


@contextmanager
def _sides(sessions: int) -> Iterator[tuple[Side, Side, float]]:
    with tempfile.TemporaryDirectory(prefix="bench-database-") as folder:
        if shutil.disk_usage(folder).free < _ROOM * sessions / big.SESSIONS:
            raise RuntimeError(f"a database of {sessions:,} sessions needs {_ROOM // 1024**3} GiB below {folder}")
        with (
            closing(Side(Postgres(Path(folder) / "full"), sessions)) as full,
            closing(Side(Postgres(Path(folder) / "empty"), 0)) as empty,
        ):
            seconds = big.fill(full.postgres, sessions)
            yield full, empty, seconds


def _statements(full: Side, empty: Side, rounds: int) -> list[Line]:
    for side in (full, empty):
        for _ in range(REQUESTS):
            side.one()  # warm: plans, and the empty one's conversations
    found: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    for _ in range(rounds):
        full.took.clear()
        empty.took.clear()
        for _ in range(REQUESTS):
            full.one()
            empty.one()
        for name, took in full.took.items():
            found[name].append((*_percentiles(took), *_percentiles(empty.took[name])))
    return [line for name, runs in found.items() for line in _lines(name, runs)]


def _function(full: Side, empty: Side, rounds: int) -> list[Line]:
    """session-upsert itself, over HTTP, on each of the two."""
    with _upsert(full) as at_full, _upsert(empty) as at_empty:
        runs = []
        for turn in range(rounds + 1):
            took: tuple[list[float], list[float]] = ([], [])
            for _ in range(CALLS):
                took[0].append(_post(at_full, full.request()))
                took[1].append(_post(at_empty, empty.request()))
            if turn:  # the first one warms
                runs.append((*_percentiles(took[0]), *_percentiles(took[1])))
    return _lines("session-upsert", runs)


@contextmanager
def _upsert(side: Side) -> Iterator[str]:
    url = f"http://127.0.0.1:{free_port()}"
    environment = {**side.postgres.environment(), "PORT": url.rpartition(":")[2], "HOST": "127.0.0.1"}
    with process(python("-m", "common.host", "functions/session-upsert"), f"{url}/health/readiness", environment):
        yield url


def _post(url: str, request: dict[str, Any]) -> float:
    created = event(
        PREFIX + "request.created", request["request_id"], request, requestid=request["request_id"], integration="web"
    )
    started = time.perf_counter()
    answer = call("POST", url, body=created.body, headers=created.headers)
    took = (time.perf_counter() - started) * 1000
    if answer.status != 200 or answer.headers.get("ce-requestid") != request["request_id"]:
        raise RuntimeError(f"session-upsert: {answer.status} {answer.body[:200]!r}")
    return took


def _percentiles(took: list[float]) -> tuple[float, float]:
    cuts = quantiles(took, n=100)
    return cuts[49], cuts[98]


def _lines(name: str, runs: list[tuple[float, float, float, float]]) -> list[Line]:
    """p50 and p99 on the big one, and the medians of their ratios to those on the empty one."""
    budget = 1.2 if name == "session-upsert" else None
    return [
        Line(f"{name}: p50", median(run[0] for run in runs), "ms"),
        Line(f"{name}: p50, of that on an empty database", median(run[0] / run[2] for run in runs), "×"),
        Line(f"{name}: p99", median(run[1] for run in runs), "ms"),
        Line(f"{name}: p99, of that on an empty database", median(run[1] / run[3] for run in runs), "×", budget, floor=1),
    ]
