"""The local stand-in for PingSources: when a tick is due, and what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.local.failure import PlatformError
from infra.local.pings import TYPE, Ping, Schedule, send
from infra.local.proxy import session
from infra.local.topology import load
from tests.parts.functions import ROOT
from tests.parts.net import free_port
from tests.parts.recorder import Recorder


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "now", "due"),
    [
        ("*/5 * * * *", "2026-01-01T00:00:30", "2026-01-01T00:05:00"),
        ("*/5 * * * *", "2026-01-01T00:05:00", "2026-01-01T00:10:00"),
        ("*/5 * * * *", "2026-01-01T23:59:59", "2026-01-02T00:00:00"),
        ("0 3 * * *", "2026-01-01T03:00:00", "2026-01-02T03:00:00"),
        ("15,45 9-17 * * 1-5", "2026-01-02T17:45:00", "2026-01-05T09:15:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 * * 7", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("0 0 13 * 5", "2026-01-01T00:00:00", "2026-01-02T00:00:00"),
        ("10-30/10 * * * *", "2026-01-01T00:20:00", "2026-01-01T00:30:00"),
    ],
)
def test_a_cron_line_says_when_the_next_tick_is_due(line: str, now: str, due: str) -> None:
    assert Schedule.parse(line).after(at(now)) == at(due)


@pytest.mark.parametrize("line", ["", "* * * *", "60 * * * *", "*/0 * * * *", "x * * * *", "5-1 * * * *", "* * 0 * *"])
def test_another_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Schedule.parse(line)


def test_a_wrong_schedule_in_the_table_is_one_line_that_names_the_function(tmp_path: Path) -> None:
    table = tmp_path / "topology.yaml"
    table.write_text("functions: {sweep: {kind: event, schedule: often}}")
    with pytest.raises(PlatformError, match=r"function sweep: `schedule`: 'often' is not a cron line"):
        load(table)


def test_the_table_gives_session_sweep_its_tick() -> None:
    functions = {one.name: one for one in load(ROOT / "infra" / "topology.yaml").functions}
    schedule = functions["session-sweep"].schedule
    assert schedule is not None
    assert schedule.after(at("2026-01-01T00:00:00")) == at("2026-01-01T00:05:00")
    assert functions["session-upsert"].schedule is None


@pytest.fixture
def broker() -> Iterator[Recorder]:
    one = Recorder()
    yield one
    one.close()


def test_a_tick_is_shaped_as_a_ping_source_shapes_it(broker: Recorder) -> None:
    ping = Ping("session-sweep", Schedule.parse("*/5 * * * *"))

    async def twice() -> list[bool]:
        async with session() as client:
            return [await send(ping, client, broker.url, at("2026-01-01T00:05:00")) for _ in range(2)]

    assert asyncio.run(twice()) == [True, True]
    first, second = broker.events
    assert first.attribute("type") == TYPE
    assert first.attribute("source").endswith("/pingsources/session-sweep")
    assert first.attribute("time") == "2026-01-01T00:05:00+00:00".replace("+00:00", "Z")
    assert first.data() == {}
    assert first.attribute("id") != second.attribute("id")


def test_a_tick_that_the_broker_does_not_take_is_left_out(broker: Recorder) -> None:
    ping = Ping("session-sweep", Schedule.parse("*/5 * * * *"))
    broker.status = 503

    async def both() -> list[bool]:
        async with session() as client:
            nobody = f"http://127.0.0.1:{free_port()}/"
            return [await send(ping, client, url, at("2026-01-01T00:05:00")) for url in (broker.url, nobody)]

    assert asyncio.run(both()) == [False, False]
