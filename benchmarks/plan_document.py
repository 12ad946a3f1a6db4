"""docs/plans.md: the plans that `make bench ARGS=database` found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.plans import BIG_TABLES, Plan, scans

_HEAD = """# Plans

Written by `make bench ARGS=database`; do not edit. How PostgreSQL runs each statement of `common/sql/queries.sql`, and each
statement inside the SQL functions that they call, on a database of {sessions:,} sessions and {requests:,} requests, by
auto_explain (generic plans, as a connection that has been open for a while uses them). *Buffers*: pages of 8 KiB that the
whole statement touched, those of the catalogue at its first call among them. What a statement changed was taken back.

No statement reads `{tables}` from end to end{but}. The same is tested with a smaller database in `tests/guard`.

| statement | inner statements | buffers |
|---|---|---|
"""
_BUFFERS = re.compile(r"Buffers: shared ([^\n]*)")
_TOUCHED = re.compile(r"(?:hit|read)=(\d+)")


def write(path: Path, found: Mapping[str, list[Plan]], sessions: int, requests: int) -> None:
    """Write the page."""
    scanned = scans(found)
    tables = "` or `".join(BIG_TABLES)
    but = f", but for: {'; '.join(scanned)}" if scanned else ""
    rows = "".join(f"| [`{name}`](#{name}) | {len(plans) - 1} | {_touched(plans)} |\n" for name, plans in found.items())
    head = _HEAD.format(sessions=sessions, requests=requests, tables=tables, but=but)
    path.write_text(head + rows + "".join(_section(name, plans) for name, plans in found.items()), encoding="utf-8")


def _touched(plans: list[Plan]) -> int:
    """Pages that the statement and all that it runs touched: the outermost plan's first line of buffers."""
    buffers = _BUFFERS.search(plans[-1].text) if plans else None
    return sum(map(int, _TOUCHED.findall(buffers[1]))) if buffers else 0


def _section(name: str, plans: list[Plan]) -> str:
    return "\n".join((f"\n## {name}\n", *_blocks(plans)))


def _blocks(plans: list[Plan]) -> Iterator[str]:
    inner, outer = plans[:-1], plans[-1:]
    shown = {plan.statement: plan for plan in reversed(inner or outer)}  # a statement that runs again and again, once
    for statement, plan in reversed(shown.items()):
        yield f"```sql\n{statement}\n```\n\n```\n{plan.text}\n```\n"
