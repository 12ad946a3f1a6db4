"""The migrations on real PostgreSQL: from an older schema, beside the tables of the system before, twice, at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.parts.functions import ROOT
from tests.parts.postgres import Postgres

TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
STEPS = "SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"


class Database:
    """An empty database of its own on the run's server."""

    def __init__(self, server: Postgres, name: str) -> None:
        self._environment = {**server.environment(), "POSTGRES_DB": name}

    def migrate(self, *revision: str) -> None:
        command = [sys.executable, "-m", "infra.migrations", *revision]
        ran = subprocess.run(command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        words = {"HOST": "host", "PORT": "port", "DB": "dbname", "USER": "user"}
        found = {key: self._environment[f"POSTGRES_{name}"] for name, key in words.items()}
        found["password"] = self._environment["POSTGRES_PASSWORD"]
        with psycopg.connect(**found, autocommit=True) as connection:  # type: ignore[arg-type]
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@contextmanager
def made(server: Postgres, name: str) -> Iterator[Database]:
    with server.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield Database(server, name)
    with server.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(postgres_server: Postgres) -> Iterator[Database]:
    with made(postgres_server, "migrated") as one:
        yield one


def test_an_older_schema_becomes_the_newest_and_keeps_its_rows(database: Database, postgres: Postgres) -> None:
    database.migrate("0001")
    database.query(
        "INSERT INTO request_sessions (integration_type, user_id, conversation_key, expires_at)"
        " VALUES ('web', 'ann', 'c', now())"
    )
    database.migrate()
    assert database.query("SELECT user_id FROM request_sessions") == [("ann",)]
    assert database.query(STEPS) == postgres.query(STEPS)


def test_tables_of_the_system_before_are_kept_under_another_name(database: Database) -> None:
    database.query("CREATE TABLE request_sessions (id serial PRIMARY KEY, session_id text UNIQUE, agent text)")
    database.query("INSERT INTO request_sessions (session_id, agent) VALUES ('old', 'a')")
    database.migrate()
    assert database.query("SELECT session_id FROM legacy_request_sessions") == [("old",)]
    assert database.query("SELECT count(*) FROM request_sessions") == [(0,)]


def test_two_at_once_and_again_change_nothing_more(database: Database) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: database.migrate(), range(2)))
    before = database.query(STEPS), database.query("SELECT * FROM integration_configs ORDER BY 1, 2")
    database.migrate()
    assert (database.query(STEPS), database.query("SELECT * FROM integration_configs ORDER BY 1, 2")) == before
    assert {"request_sessions", "request_logs", "integration_configs", "dead_letters"} <= {
        name for (name,) in database.query(TABLES)
    }
