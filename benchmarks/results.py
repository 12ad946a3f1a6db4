"""A benchmark's lines: what was measured, against what, and whether the budget is met."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

_MARK, _END = '<!-- figures: make bench ARGS="--markdown docs/performance.md" -->', "<!-- end of figures -->"


@dataclass(frozen=True)
class Line:
    """One figure. `budget` None: it is told, not judged. `at_most`: the budget is an upper bound.

    `floor`: what cannot be beaten however good our code is (a ratio's 1, what the cores can do), where that is known.
    """

    name: str
    value: float
    unit: str
    budget: float | None = None
    at_most: bool = True
    floor: float | None = None

    @property
    def bound(self) -> str:
        """The budget as text; nothing where there is none."""
        return "" if self.budget is None else f"{'≤' if self.at_most else '≥'} {self.budget:g}"

    @property
    def verdict(self) -> str:
        """met, MISSED, or nothing where there is no budget."""
        if self.budget is None:
            return ""
        met = self.value <= self.budget if self.at_most else self.value >= self.budget
        return "met" if met else "MISSED"


def machine() -> dict[str, str]:
    """What it ran on: comparable only with itself."""
    packages = ("parliament-functions", "waitress", "flask", "psycopg", "pydantic", "llama-stack-client")
    return {
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "kernel": platform.release(),
        **{name: version(name) for name in packages},
    }


def show(title: str, lines: Iterable[Line]) -> None:
    """Print a part's lines as a table: what, measured, budget, floor, verdict."""
    sys.stdout.write(f"\n{title:<64} {'measured':>10} {'':<6} {'budget':>8} {'floor':>8}\n")
    for line in lines:
        floor = "" if line.floor is None else f"{line.floor:.4g}"
        figures = f"{_figure(line.value):>10} {line.unit:<6} {line.bound:>8} {floor:>8}"
        sys.stdout.write(f"  {line.name:<62} {figures}  {line.verdict}".rstrip() + "\n")
    sys.stdout.flush()


def markdown(parts: dict[str, list[Line]]) -> str:
    """Everything as the tables of docs/performance.md."""
    rows = ", ".join(f"{name} {value}" for name, value in machine().items()) + "\n"
    for title, lines in parts.items():
        rows += f"\n### {title}\n\n" + ("![rate and latency by clients](chain.svg)\n\n" if title == "chain" else "")
        rows += "| | measured | budget | floor | verdict |\n|---|---|---|---|---|\n"
        for line in lines:
            floor = "" if line.floor is None else f"{line.floor:.4g}"
            verdict = f"**{line.verdict.lower()}**" if line.verdict == "MISSED" else line.verdict
            rows += f"| {line.name.strip()} | {_figure(line.value)} {line.unit} | {line.bound} | {floor} | {verdict} |\n"
    return rows


def insert(path: Path, text: str) -> None:
    """Put text between the two marks of a page; where there is no such page, the text becomes one."""
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    before, first, rest = page.partition(_MARK)
    _, second, after = rest.partition(_END)
    path.write_text(f"{before}{first}\n{text}\n{second}{after}" if second else text, encoding="utf-8")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}".rstrip("0").rstrip(".")


def save(path: Path, parts: dict[str, list[Line]]) -> None:
    """Write everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {name: [{**asdict(line), "verdict": line.verdict} for line in lines] for name, lines in parts.items()}
    path.write_text(json.dumps({"machine": machine(), "parts": found}, indent=2) + "\n", encoding="utf-8")
