"""The figures of a run."""

from __future__ import annotations

import os
import platform
from collections import Counter
from dataclasses import dataclass

from tests.chaos import oracles
from tests.chaos.knobs import Knobs
from tests.chaos.records import Records, Violation

_SHOWN = 8  # violations of one kind that are spelled out


@dataclass(frozen=True)
class Outcome:
    """What a run found. It is void when something that was planned never happened: then it has tested less than it says."""

    knobs: Knobs
    records: Records
    missing: frozenset[str]
    not_accepted: int
    posts: int
    faults: Counter[str]
    disorder: Counter[str]
    settled_after: float
    took: float

    def violations(self) -> dict[str, list[Violation]]:
        """What each oracle found."""
        return {name: oracle(self.records) for name, oracle in oracles.ZEROS.items()}

    @property
    def is_void(self) -> bool:
        """Whether it tested less than was planned."""
        return bool(self.missing)

    def exit_code(self) -> int:
        """0 when all zeros are zero, 1 when one is not, 2 when the run is void."""
        if any(self.violations().values()):
            return 1
        return 2 if self.is_void else 0


def render(outcome: Outcome) -> str:
    """The table, and after it what was violated or missing."""
    records, violations = outcome.records, outcome.violations()
    statuses = Counter(result.status for result in records.results.values())
    repeats = oracles.repeated_deliveries(records)
    codes = Counter(row.error_code for row in records.rows.values() if row.error_code is not None)
    done = Counter(f"{one.kind} {one.part}" for one in records.disturbances if one.kind != "fault")
    kills = Counter({name.removeprefix("kill "): count for name, count in done.items() if name.startswith("kill ")})
    others = Counter({name: count for name, count in done.items() if not name.startswith("kill ")})
    extra, costly = sum(oracles.extra_calls(records).values()), sum(map(oracles.may_cost_a_call, records.disturbances))
    killing = sum(count for name, count in outcome.faults.items() if name.endswith(" kill"))
    lines = [
        ("seed", outcome.knobs.seed),
        (
            "requests accepted",
            f"{len(records.accepted)} of {len(records.accepted) + outcome.not_accepted}, in {outcome.posts} posts",
        ),
        ("answered", statuses["completed"]),
        ("failed with notice", f"{statuses['failed']} {_list(codes)}"),
        *((name, len(found)) for name, found in violations.items()),
        ("extra model calls", f"{extra} of {len(records.calls)}; kills and faults that may cost some: {costly}"),
        ("calls that model_calls lacks", oracles.uncounted_calls(records)),
        ("turns claimed again", oracles.attempts_beyond_the_first(records)),
        ("deliveries", len(records.sent)),
        ("repeated with the same key", f"{repeats.total()} {_list(repeats)}"),
        ("sessions", len({row.session_id for row in records.rows.values() if row.session_id})),
        ("kills", f"{kills.total() + killing}: {_list(kills)}; by a fault {killing}"),
        ("stopped, cut, slowed", f"{others.total()}: {_list(others)}"),
        ("faults fired", f"{outcome.faults.total()}: {_list(outcome.faults)}"),
        ("deliveries disordered", _list(outcome.disorder) or "none"),
        ("settled after", f"{outcome.settled_after:.1f} s; the whole run took {outcome.took:.0f} s"),
        ("machine", f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"),
    ]
    width = max(len(name) for name, _ in lines)
    text = [f"  {name:<{width}}  {value}" for name, value in lines]
    for name, found in violations.items():
        text += [f"  {name}: {one.about} {one.how}" for one in found[:_SHOWN]]
    if outcome.is_void:
        text.append(f"  VOID: planned, and never happened: {', '.join(sorted(outcome.missing))}")
    return "\n".join(text)


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
