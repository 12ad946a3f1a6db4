"""While an upgrade runs, the code of the version before works on the new schema: every statement of it still runs there."""

from __future__ import annotations

import re

import psycopg
import pytest

from infra.deploy import wheel
from tests.parts.functions import ROOT
from tests.parts.postgres import Postgres

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PARAMETER = re.compile(r"%\((\w+)\)s")


def statements(path: str) -> dict[str, str]:
    """The statements of a file like common/sql/queries.sql, with PostgreSQL's own parameters ($1 …)."""
    parts = _NAME.split((ROOT / path).read_text())
    found = {}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        order: list[str] = []
        for parameter in _PARAMETER.findall(text):
            if parameter not in order:
                order.append(parameter)
        found[name] = _PARAMETER.sub(lambda match, order=order: f"${order.index(match[1]) + 1}", text).replace("%%", "%")
    return found


@pytest.mark.parametrize("path", [wheel.PREVIOUS, wheel.CURRENT])
def test_every_statement_of_the_version_before_is_one_on_the_newest_schema(path: str, postgres: Postgres) -> None:
    known = statements(path)
    assert len(known) > 5
    with postgres.connect() as connection:
        for name, text in known.items():
            connection.execute(
                f"PREPARE {name} AS {text.strip().rstrip(';')}".encode()
            )  # names of functions, their arguments


def test_the_text_of_a_statement_that_the_schema_no_longer_knows_is_caught(postgres: Postgres) -> None:
    with postgres.connect() as connection, pytest.raises(psycopg.errors.UndefinedFunction, match="no_such_step"):
        connection.execute("PREPARE gone AS SELECT no_such_step($1)")
