"""The files of docs/contracts: what they should hold, writing them, and whether they do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from infra.contracts import asyncapi, openapi
from infra.contracts.schemas import event_schemas

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "contracts"


@cache
def documents() -> Mapping[str, str]:
    """Every file's text by its name below docs/contracts."""
    made: dict[str, Any] = {
        "openapi.json": openapi.document(ROOT),
        "asyncapi.json": asyncapi.document(ROOT),
        **{f"schemas/{name}": schema for name, schema in event_schemas().items()},
    }
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in made.items()}


def write() -> None:
    """Make them anew, and take away what is no longer one of them."""
    made = documents()
    for path in FOLDER.rglob("*.json"):
        if str(path.relative_to(FOLDER)) not in made:
            path.unlink()
    for name, text in made.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def problems() -> list[str]:
    """A line for each file that is not what the models make."""
    made = documents()
    found = [f"docs/contracts/{name} is not what the models make: python -m infra.contracts --write"
             for name, text in made.items() if _text(FOLDER / name) != text]  # fmt: skip
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.json")}
    return [*found, *(f"docs/contracts/{name} is of no model" for name in sorted(there - set(made)))]


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
