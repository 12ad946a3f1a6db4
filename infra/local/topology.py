"""The topology table as the platform reads it: which functions there are, and which paths the front door gives them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.local.failure import PlatformError
from infra.local.pings import Schedule

KINDS = ("ingest", "read", "event")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")  # func.yaml's rule for names


@dataclass(frozen=True, slots=True)
class Function:
    """One row of the table.

    `pages` are the paths, and what is below them, that a browser GETs of an ingest function.
    `schedule` is when it gets a tick of the clock.
    `threads` is the number of requests that one process works on at once, `needs` are the parts that it cannot do without.
    """

    name: str
    kind: str
    paths: tuple[str, ...]
    threads: int
    needs: frozenset[str]
    pages: tuple[str, ...] = ()
    schedule: Schedule | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """The functions in the order of the table, and the table's file."""

    path: Path
    functions: tuple[Function, ...]


def load(path: Path) -> Topology:
    """Read the table. Raises PlatformError with one line that says what is wrong in it."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PlatformError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    rows = document.get("functions") if isinstance(document, dict) else None
    if not isinstance(rows, dict) or not rows:
        raise PlatformError(f"{path}: `functions` must be a table of at least one function")
    return Topology(path, tuple(_function(path, str(name), row) for name, row in rows.items()))


def _function(path: Path, name: str, row: Any) -> Function:
    where = f"{path}: function {name}"
    if not _NAME.fullmatch(name) or not isinstance(row, dict):
        raise PlatformError(f"{where}: not a function's name and its table")
    kind, threads, paths = row.get("kind"), row.get("threads", 16), row.get("paths", [])
    if kind not in KINDS:
        raise PlatformError(f"{where}: `kind` must be one of {', '.join(KINDS)}")
    if not isinstance(threads, int) or threads < 1:
        raise PlatformError(f"{where}: `threads` must be a whole number above 0")
    if not isinstance(paths, list) or not all(isinstance(one, str) and one.startswith("/") for one in paths):
        raise PlatformError(f"{where}: `paths` must be a list of paths")
    pages = row.get("pages", [])
    if not isinstance(pages, list) or not all(isinstance(one, str) and one.startswith("/") for one in pages):
        raise PlatformError(f"{where}: `pages` must be a list of paths")
    needs = row.get("needs", [])
    if not isinstance(needs, list):
        raise PlatformError(f"{where}: `needs` must be a list")
    return Function(
        name,
        kind,
        tuple(one.rstrip("/") for one in paths),
        threads,
        frozenset(map(str, needs)),
        tuple(pages),
        _schedule(where, row.get("schedule")),
    )


def _schedule(where: str, line: Any) -> Schedule | None:
    if line is None:
        return None
    try:
        return Schedule.parse(str(line))
    except ValueError as error:
        raise PlatformError(f"{where}: `schedule`: {error}") from None
