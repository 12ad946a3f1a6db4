"""What the runbook asks of the database is answered."""

from __future__ import annotations

from tests.observability.runbook import statements
from tests.parts.postgres import Postgres


def test_its_sql_runs(postgres: Postgres) -> None:
    found = statements()
    assert len(found) > 8
    with postgres.connect() as connection:
        for statement in found:
            connection.execute(statement.encode())
