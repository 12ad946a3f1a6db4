"""The stand-in for PingSources: sends a function its tick through the broker, as `schedule` in the topology table says."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiohttp

TYPE = "dev.knative.sources.ping"
_FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))  # minute, hour, day, month, weekday (0 and 7 are Sunday)
_SECONDS = 10.0  # that the broker has to take a tick


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron line of five fields, in UTC: numbers, `*`, ranges, lists and steps, as a PingSource takes it (robfig/cron)."""

    fields: tuple[frozenset[int], ...]
    any_day: bool  # day or weekday is *: both must match; else either

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Raises ValueError when it is not such a line."""
        parts = text.split()
        if len(parts) != len(_FIELDS):
            raise ValueError(f"{text!r} is not a cron line of five fields")
        fields = [_values(part, *bounds) for part, bounds in zip(parts, _FIELDS, strict=True)]
        fields[4] = frozenset(day % 7 for day in fields[4])
        return cls(tuple(fields), any_day=parts[2].startswith("*") or parts[4].startswith("*"))

    def matches(self, when: datetime) -> bool:
        """Whether a tick is due in that minute."""
        minute, hour, day, month, weekday = self.fields
        days = when.day in day, when.isoweekday() % 7 in weekday
        on_day = all(days) if self.any_day else any(days)
        return when.minute in minute and when.hour in hour and when.month in month and on_day

    def after(self, when: datetime) -> datetime:
        """The first due minute after `when`.

        Raises ValueError when there is none within five years (30 February).
        """
        found = when.replace(second=0, microsecond=0) + timedelta(minutes=1)
        last = found + timedelta(days=5 * 366)
        while not self.matches(found):
            found += timedelta(minutes=1)
            if found > last:
                raise ValueError("the schedule is never due")
        return found


@dataclass(frozen=True, slots=True)
class Ping:
    """A PingSource: the name of the function that it is for, and when."""

    name: str
    schedule: Schedule


async def run(pings: Sequence[Ping], client: aiohttp.ClientSession, broker: str) -> None:
    """Send every ping's ticks to the broker's URL, until cancelled. A tick that the broker does not take is left out."""
    await asyncio.gather(*(_run(one, client, broker) for one in pings))


async def _run(ping: Ping, client: aiohttp.ClientSession, broker: str) -> None:
    due = ping.schedule.after(datetime.now(UTC))
    while True:
        # asyncio may wake a moment early by the wall clock.
        while (left := (due - datetime.now(UTC)).total_seconds()) > 0:
            await asyncio.sleep(left)
        await send(ping, client, broker, due)
        due = ping.schedule.after(max(due, datetime.now(UTC)))


async def send(ping: Ping, client: aiohttp.ClientSession, broker: str, due: datetime) -> bool:
    """Send one tick as PingSource does. Whether the broker took it."""
    headers = {
        "ce-specversion": "1.0",
        "ce-type": TYPE,
        "ce-source": f"/apis/v1/namespaces/default/pingsources/{ping.name}",
        "ce-id": str(uuid.uuid4()),
        "ce-time": due.isoformat().replace("+00:00", "Z"),
        "content-type": "application/json",
    }
    try:
        async with client.post(broker, headers=headers, data=b"{}", timeout=aiohttp.ClientTimeout(total=_SECONDS)) as answer:
            return answer.status < 300
    except (aiohttp.ClientError, TimeoutError):
        return False


def _values(part: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for one in part.split(","):
        span, _, step = one.partition("/")
        first, _, last = span.partition("-")
        begin, end = (low, high) if span == "*" else (int(first), int(last or (high if step else first)))
        every = int(step or 1)
        if not low <= begin <= end <= high or every < 1:
            raise ValueError(f"{part!r} is not within {low}-{high}")
        found.update(range(begin, end + 1, every))
    return frozenset(found)
