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


@dataclass(frozen=True)
class Line:
    """One figure. `budget` None: it is told, not judged. `at_most`: the budget is an upper bound."""

    name: str
    value: float
    unit: str
    budget: float | None = None
    at_most: bool = True

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
    """Print a part's lines as a table."""
    sys.stdout.write(f"\n{title}\n")
    for line in lines:
        bound = "" if line.budget is None else f"{'≤' if line.at_most else '≥'} {line.budget:g}"
        sys.stdout.write(f"  {line.name:<62} {line.value:>10.2f} {line.unit:<10} {bound:>8}  {line.verdict}\n")
    sys.stdout.flush()


def save(path: Path, parts: dict[str, list[Line]]) -> None:
    """Write everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {name: [{**asdict(line), "verdict": line.verdict} for line in lines] for name, lines in parts.items()}
    path.write_text(json.dumps({"machine": machine(), "parts": found}, indent=2) + "\n", encoding="utf-8")
