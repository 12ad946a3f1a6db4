"""The order of a session's turns: the gap between two of them, and a thousand sessions that do not wait for one another."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import psycopg

from benchmarks import calls
from benchmarks.platform import platform
from benchmarks.post import Call
from benchmarks.processes import busy_seconds, free_port, process, python
from benchmarks.results import Line
from tests.parts.postgres import Postgres

TURN_SECONDS = 0.05
LOADS = ((8, 12), (40, 6))  # sessions and turns of each, all sent at once: what the machine can do, and more than that
SIDE_BY_SIDE, SLOW_SECONDS = 1000, 2.0
PROCESSES, AT_ONCE = 5, 200  # agent-invoke as an autoscaler would have it: a slot for every session
ONE_PROCESS_SESSIONS = 64
_GAP = 200.0


def measure(sessions: int = SIDE_BY_SIDE) -> list[Line]:
    """Gaps from the platform's tables; then agent-invoke processes alone, with an agent that takes two seconds."""
    return [*_gaps(), *_side_by_side(sessions)]


def _gaps() -> list[Line]:
    """Every session is sent all its turns at once: each stands behind the one before."""
    with platform("--delay", str(TURN_SECONDS)) as running, running.connect() as connection:
        return [line for sessions, turns in LOADS for line in _gap(running.url, connection, sessions, turns)]


def _gap(url: str, connection: psycopg.Connection[Any], sessions: int, turns: int) -> list[Line]:
    found = asyncio.run(_ask_all(url, sessions, turns))
    rows = connection.execute(
        "SELECT extract(epoch FROM started_at - before) * 1000, in_order FROM (SELECT started_at,"
        " greatest(recorded_at, lag(completed_at) OVER turn) AS before, lag(completed_at) OVER turn AS previous,"
        " coalesce(lag(completed_at) OVER turn <= started_at, true) AS in_order FROM request_logs"
        " WHERE request_id = ANY(%s) WINDOW turn AS (PARTITION BY session_id ORDER BY accepted_at, request_id)) t"
        " WHERE previous IS NOT NULL",
        (found,),
    ).fetchall()
    gaps = sorted(float(row[0]) for row in rows)
    if len(gaps) != sessions * (turns - 1) or not all(row[1] for row in rows):
        raise RuntimeError(f"{len(gaps)} gaps, {sum(not row[1] for row in rows)} turns began before the one before ended")
    cuts = quantiles(gaps, n=100)
    name = f"{sessions} sessions, {turns} turns each at once: commit to next start"
    budget = _GAP if (sessions, turns) == LOADS[0] else None
    return [
        Line(f"{name}, p50", cuts[49], "ms", budget),
        Line(f"{name}, p99", cuts[98], "ms", budget),
        Line(f"{name}, longest", gaps[-1], "ms"),
    ]


async def _ask_all(url: str, sessions: int, turns: int) -> list[str]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def ask(session: int) -> list[str]:
            accepted = []
            for turn in range(turns):  # one after the other is accepted, none is waited for
                body = {"user_id": f"order{sessions}-{session}", "content": f"turn {turn}", "session_token": "order"}
                async with http.post(f"{url}/api/v1/requests/web", json=body) as answer:
                    accepted.append((await answer.json())["request_id"])
            for request_id in accepted:
                await _answered(http, f"{url}/api/v1/requests/{request_id}?wait=60")
            return accepted

        return [one for asked in await asyncio.gather(*map(ask, range(sessions))) for one in asked]


async def _answered(http: aiohttp.ClientSession, url: str) -> None:
    while True:
        async with http.get(url) as found:
            body: dict[str, Any] = await found.json()
            if found.status == 200 and body["status"] == "completed":
                return
            if found.status not in (200, 404) or body.get("status") == "failed":
                raise RuntimeError(f"{found.status}: {body}")


def _side_by_side(sessions: int) -> list[Line]:
    with TemporaryDirectory(prefix="bench-ordering-") as folder, ExitStack() as stack:
        postgres = stack.enter_context(closing(Postgres(Path(folder) / "db")))
        agent = f"http://127.0.0.1:{free_port()}"
        command = python("-m", "benchmarks.instant_stack", agent.rpartition(":")[2], "--delay", str(SLOW_SECONDS))
        stack.enter_context(process(command, f"{agent}/v1/health"))
        raw = asyncio.run(_all_at_once([f"{agent}/v1/openai/v1/responses"], [_raw()] * sessions))
        with _agents(postgres, agent, PROCESSES, AT_ONCE) as urls:
            asyncio.run(
                _all_at_once(urls, _new(postgres, len(urls) * 2))
            )  # warm: the client is imported, the pools are open
            made, busy = _new(postgres, sessions), busy_seconds()
            many = asyncio.run(_all_at_once(urls, made))
            busy = busy_seconds() - busy
        with _agents(postgres, agent, 1, None) as urls:
            asyncio.run(_all_at_once(urls, _new(postgres, 2)))
            one = asyncio.run(_all_at_once(urls, _new(postgres, ONE_PROCESS_SESSIONS)))
        used = postgres.query("SELECT count(*), count(DISTINCT session_id), sum(model_calls) FROM request_logs")[0]
        asked = len(urls) * 2 + PROCESSES * 2 + sessions + ONE_PROCESS_SESSIONS
        if used != (asked, asked, asked):
            raise RuntimeError(f"requests, sessions, calls of the model: {used}, asked {asked}")
    ideal = SLOW_SECONDS + busy / (os.cpu_count() or 1)
    waves = SLOW_SECONDS * ONE_PROCESS_SESSIONS / 16
    return [
        Line(f"{sessions} calls of the 2 s agent itself, all at once", max(raw), "s"),
        Line(f"{sessions} sessions, a turn each, {PROCESSES} agent-invoke: all answered after", max(many), "s"),
        Line(f"{sessions} sessions: median answer, of the agent's own", median(many) / median(raw), "×"),
        Line(f"{sessions} sessions: last answer, of 2 s and the CPU's need for all", max(many) / ideal, "×", 1.2, floor=1),
        Line(
            f"{ONE_PROCESS_SESSIONS} sessions, one agent-invoke as it comes, of {waves:g} s",
            max(one) / waves,
            "×",
            1.2,
            floor=1,
        ),
    ]


@contextmanager
def _agents(postgres: Postgres, agent: str, count: int, at_once: int | None) -> Iterator[list[str]]:
    """agent-invoke processes; `at_once` None leaves threads and calls at what the topology table gives them."""
    threads = {"THREADS": "32"} if at_once is None else {"THREADS": str(at_once), "AGENT_CONCURRENCY": str(at_once)}
    with ExitStack() as stack:
        urls = []
        for _ in range(count):
            port = free_port()
            environment = {**postgres.environment(), "LLAMA_STACK_URL": agent, "LOG_LEVEL": "WARNING", **threads}
            command = python("-m", "common.host", "functions/agent-invoke")
            ready = f"http://127.0.0.1:{port}/health/readiness"
            stack.enter_context(process(command, ready, {**environment, "PORT": str(port)}))
            urls.append(f"http://127.0.0.1:{port}/")
        yield urls


def _raw() -> Call:
    return Call(json.dumps({"model": "m", "input": "hello"}), {"content-type": "application/json"}, status=200)


def _new(postgres: Postgres, count: int) -> list[Call]:
    return list(calls.recorded(postgres, count))


async def _all_at_once(urls: list[str], made: list[Call]) -> list[float]:
    """Send all calls at once, over the addresses in turn; seconds from the first send to each answer.

    What is answered 409 or 503 is sent again, as a broker does.
    """
    timeout = aiohttp.ClientTimeout(total=180)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http:
        started = time.perf_counter()

        async def send(number: int, call: Call) -> float:
            while True:
                async with http.post(urls[number % len(urls)], headers=call.headers, data=call.body.encode()) as answer:
                    body = await answer.read()
                    if answer.status == 200:
                        if call.id and answer.headers.get("ce-requestid") != call.id:
                            raise RuntimeError(f"the answer to another request: {dict(answer.headers)}")
                        return time.perf_counter() - started
                    if answer.status not in (409, 503):
                        raise RuntimeError(f"{answer.status} {body[:200]!r}")
                await asyncio.sleep(0.1)

        return list(await asyncio.gather(*(send(number, call) for number, call in enumerate(made))))
