"""What a request costs the database: statements, commits and write-ahead log, for a browser, Slack and a tool."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from benchmarks.platform import Platform, platform
from benchmarks.results import Line
from benchmarks.statement_log import StatementLog
from infra.local.defaults import SIGNING_SECRET, TOOL_KEY
from tests.parts.net import call
from tests.parts.samples import BODIES, slack_headers

INTEGRATIONS = ("web", "slack", "tool")
REQUESTS, AT_ONCE, USERS = 200, 4, 50
_BUDGET = 4.0
_STEPS = {"web": 3, "slack": 5, "tool": 5}  # what must be durable: recorded, claimed, answered; being sent, sent
_DELIVERED = "SELECT count(*) FROM request_logs WHERE delivered_at IS NOT NULL AND integration_type = %s"


def measure(requests: int = REQUESTS) -> list[Line]:
    """Every integration for itself, on a platform that has answered some already."""
    with platform() as running, running.connect() as connection:
        log = StatementLog(connection, running.state / "logs" / "postgresql.log")
        lines = []
        for integration in INTEGRATIONS:
            _ask(running, connection, integration, 50)  # sessions are there, statements are prepared
            lines += _of(running, connection, log, integration, requests)
        return lines


def _of(
    running: Platform, connection: psycopg.Connection[Any], log: StatementLog, integration: str, requests: int
) -> list[Line]:
    log.take()
    commits, wal = _counters(connection)
    polls = _ask(running, connection, integration, requests)
    commits_after, wal_after = _counters(connection)
    names = Counter(log.take())
    read = names.pop("get_request", 0)
    ours = commits_after - commits - polls - 2  # what we asked the server ourselves
    lines = [
        Line(
            f"{integration}: statements a request, over the chain",
            names.total() / requests,
            "",
            _BUDGET,
            floor=_STEPS[integration],
        ),
        *(Line(f"{integration}: {name}", count / requests, "") for name, count in names.most_common()),
        Line(f"{integration}: commits a request, with reads", ours / requests, ""),
        Line(f"{integration}: write-ahead log a request", (wal_after - wal) / requests, "bytes"),
    ]
    return [*lines, Line(f"{integration}: reads by a client that waits", read / requests, "")] if read else lines


def _counters(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """Commits of the database, and bytes of write-ahead log since the cluster was made."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT xact_commit, pg_current_wal_insert_lsn() - '0/0'::pg_lsn FROM pg_stat_database"
        " WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _ask(running: Platform, connection: psycopg.Connection[Any], integration: str, requests: int) -> int:
    """Ask, a few at once; these are read or delivered before the next few are asked, as a burst would be held off.

    How often the database was asked for that.
    """
    deadline = time.monotonic() + 120
    before, polls = _delivered(connection, integration), 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in range(0, requests, AT_ONCE):
            last = min(first + AT_ONCE, requests)
            list(pool.map(lambda number: _one(running.url, integration, number), range(first, last)))
            while integration != "web":
                polls += 1
                if _delivered(connection, integration) == before + last:
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{integration}: not every answer was delivered within two minutes")
                time.sleep(0.005)  # a delivery notifies nobody
    return polls


def _delivered(connection: psycopg.Connection[Any], integration: str) -> int:
    row = connection.execute(_DELIVERED, (integration,)).fetchone()
    assert row is not None
    return int(row[0])


def _one(url: str, integration: str, number: int) -> None:
    user = f"user{number % USERS}"
    body = json.dumps({**BODIES[integration], "user_id": user, "slack_user_id": user}).encode()
    proof = {"slack": slack_headers(body, secret=SIGNING_SECRET), "tool": {"x-api-key": TOOL_KEY}}.get(integration, {})
    headers = {"content-type": "application/json", **proof}
    accepted = call("POST", f"{url}/api/v1/requests/{integration}", body=body, headers=headers)
    if accepted.status != 202:
        raise RuntimeError(f"{integration}: {accepted.status} {accepted.body!r}")
    if integration == "web":
        found = call("GET", f"{url}{accepted.json()['status_url']}?wait=30")
        while found.status == 404 or (found.status == 200 and found.json()["status"] != "completed"):
            found = call("GET", f"{url}{accepted.json()['status_url']}?wait=30")
        if found.status != 200:
            raise RuntimeError(f"{integration}: {found.status} {found.body!r}")
