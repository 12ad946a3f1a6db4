"""A request's way as rows on one scale of time: from the steps that the tables have, and from what a broker saw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Document = Mapping[str, Any]

# What the time before a step was for, in words; the step itself is in the row's note.
_SPANS = {
    "accepted": "accepted",
    "recorded": "on its way, until it was recorded",
    "turn came": "behind the turn before it",
    "started": "on its way to the agent",
    "first words": "agent: until its first words",
    "answered": "agent: until the answer was committed",
    "failed": "until it was ended as failed",
    "delivered": "on its way to where it was asked",
    "given up": "until its delivery was given up",
    "sent on": "stood still, until session-sweep sent it on",
    "sent again": "undelivered, until session-sweep sent it again",
}
_LEAST = 0.7  # percent of the drawing: a part is never narrower
_BAD = frozenset({"failed", "given up"})
_WAITS = frozenset({"turn came", "sent on", "sent again"})
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000)


@dataclass(frozen=True)
class Part:
    """A stretch of a row in milliseconds after the beginning. `kind`: ok, retry, bad, wait or open (not ended yet)."""

    start: float
    end: float
    kind: str


@dataclass(frozen=True)
class Row:
    """A line: who, what, when (`at`, milliseconds after the beginning), how long, and how it ended.

    `more` is what is shown when it is opened.
    """

    title: str
    what: str
    at: float | None
    took: float | None
    outcome: str
    kind: str
    parts: tuple[Part, ...]
    more: Document = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """From the beginning to `end`, in milliseconds: a little more than the last row, so that its end is seen."""

    end: float

    def left(self, part: Part) -> str:
        """Where a part begins, as an SVG length."""
        return f"{100 * max(0.0, part.start) / self.end:.3f}%"

    def width(self, part: Part) -> str:
        """How wide it is: never so narrow that it is not seen."""
        return f"{max(_LEAST, 100 * (part.end - max(0.0, part.start)) / self.end):.3f}%"

    def ticks(self) -> list[tuple[str, str]]:
        """A few round times, each with its place."""
        step = next((one for one in _TICKS if self.end / one <= 5), self.end / 4)
        return [(f"{100 * n * step / self.end:.3f}%", duration(n * step)) for n in range(1, int(self.end / step) + 1)]


def scale(rows: Iterable[Row]) -> Scale:
    """The scale on which all rows fit."""
    ends = [part.end for row in rows for part in row.parts] + [row.at or 0 for row in rows]
    return Scale(max([*ends, 1.0]) * 1.02)


def from_steps(steps: Sequence[Document]) -> list[Row]:
    """A row for each step of the tables: the time since the step before it. A step that is still to come has no bar."""
    rows: list[Row] = []
    last = 0.0
    for step in steps:
        name, after = str(step["step"]), step["after_ms"]
        told = ", ".join(
            f"{key.replace('_', ' ')} {value}" for key, value in step["detail"].items() if value not in (None, "")
        )
        if after is None:
            rows.append(Row(step["function"], f"{name}: not yet", None, None, told, "open", ()))
            continue
        kind = "bad" if name in _BAD else "wait" if name in _WAITS else "ok"
        start = min(last, after)
        took = None if name == "accepted" else after - start
        parts = (Part(start, after, kind),)
        rows.append(Row(step["function"], _SPANS.get(name, name), after, took, told or name, kind, parts))
        last = max(last, after)
    return rows


def from_events(events: Sequence[Document], beginning: str, now: str | None = None) -> list[Row]:
    """A row for each delivery that a broker tried; `beginning` is when the request was accepted."""
    zero = datetime.fromisoformat(beginning)

    def after(at: str) -> float:
        return (datetime.fromisoformat(at) - zero).total_seconds() * 1000

    rows = []
    for event in events:
        name = str(event["type"]).rpartition("self-service-agent.")[2]
        came = after(event["received_at"])
        if not event["deliveries"]:
            rows.append(Row("nobody", name, came, None, "no Trigger wants it", "wait", (Part(came, came, "wait"),), event))
        for delivery in event["deliveries"]:
            rows.append(_delivery(event, delivery, name, came, after, now))
    return rows


def _delivery(event: Document, delivery: Document, name: str, came: float, after: Any, now: str | None) -> Row:
    tries: Sequence[Document] = delivery.get("tries", ())
    begin = came if delivery["first_attempt_at"] is None else after(delivery["first_attempt_at"])
    ended = delivery["finished_at"]
    end = after(ended) if ended else max(begin, after(now) if now else begin)
    is_bad = delivery["state"] == "dead_lettered"
    kind = "bad" if is_bad else "open" if ended is None else "retry" if delivery["attempts"] > 1 else "ok"
    if tries:
        whole = Part(begin, end, "wait")
        attempts = (Part(after(one["at"]) - one["duration_ms"], after(one["at"]), _kind(one)) for one in tries)
        parts = (whole, *attempts)
    else:
        parts = (Part(begin, end, kind),)
    return Row(
        title=delivery["function"],
        what=name + (" (dead letter)" if delivery["trigger"] in event.get("errors", {}) else ""),
        at=begin,
        took=end - begin,
        outcome=_outcome(delivery),
        kind=kind,
        parts=parts,
        more={**event, "delivery": delivery, "error": event.get("errors", {}).get(delivery["trigger"])},
    )


def _kind(attempt: Document) -> str:
    return {"delivered": "ok", "retried": "retry"}.get(attempt["outcome"], "bad")


def _outcome(delivery: Document) -> str:
    status = "no answer" if delivery["status"] is None and delivery["attempts"] else delivery["status"]
    words = {"dead_lettered": "given up", "retrying": "waits for its next try", "in_flight": "under way", "waiting": "waits"}
    parts = [words.get(delivery["state"], ""), "" if status is None else str(status)]
    if delivery["attempts"] > 1:
        parts.append(f"{delivery['attempts']} tries")
    return ", ".join(filter(None, parts))


def duration(milliseconds: float | None) -> str:
    """A time span as people read it: 12 ms, 3.4 s, 2 min 5 s."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
