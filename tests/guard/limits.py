"""The table of what a request may cost, and what went beyond it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LIMITS: dict[str, Any] = tomllib.loads(Path(__file__).with_name("limits.toml").read_text(encoding="utf-8"))


def grown(found: Mapping[str, int], limits: Mapping[str, int]) -> list[str]:
    """A line for each count that is above its limit; what the table does not name has none, and may not be there."""
    return [
        f"{name}: {count}, at most {limits.get(name, 0)}"
        for name, count in sorted(found.items())
        if count > limits.get(name, 0)
    ]
