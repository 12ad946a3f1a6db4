"""No statement that a function runs reads a big table from end to end, however it is called and whatever it calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from benchmarks import big, plans
from common.database import load_queries
from tests.parts.postgres import Postgres

SESSIONS = 10_000  # enough that the planner would not rather read everything


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with closing(Postgres(tmp_path_factory.mktemp("plans") / "postgres")) as postgres:
        big.fill(postgres, SESSIONS)
        yield postgres


@pytest.fixture(scope="module")
def found(full: Postgres) -> dict[str, list[plans.Plan]]:
    return plans.of_everything(full)


def test_no_statement_reads_a_big_table_from_end_to_end(found: dict[str, list[plans.Plan]]) -> None:
    assert not plans.scans(found)


def test_every_statement_is_looked_at(found: dict[str, list[plans.Plan]]) -> None:
    assert set(found) == set(load_queries()) - {"ready"}
    assert all(found.values())


def test_what_a_step_runs_inside_is_looked_at_too(found: dict[str, list[plans.Plan]]) -> None:
    inner = " ".join(plan.statement for plan in found["claim_turn"])
    assert "UPDATE request_sessions SET lease_owner" in inner
    assert len(found["record_request"]) > 5


def test_a_missing_index_is_noticed(full: Postgres) -> None:
    definition = full.query("SELECT indexdef FROM pg_indexes WHERE indexname = 'request_logs_history'")[0][0]
    full.query("DROP INDEX request_logs_history")
    try:
        assert any("request_logs" in line for line in plans.scans(plans.of_everything(full)))
    finally:
        full.query(definition)
