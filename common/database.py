"""PostgreSQL: a small pool, opened by the first statement, and the named statements of `sql/queries.sql`."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import psycopg
from prometheus_client import REGISTRY
from psycopg.rows import scalar_row
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from common import faults, metrics, settings, tracing
from common.errors import Malformed, Unavailable

log = logging.getLogger(__name__)

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*$", re.MULTILINE)  # of the statement that follows
_AWAY = "The database does not answer."


def connection_settings() -> dict[str, Any]:
    """psycopg connection parameters from POSTGRES_*.

    Raises SettingError for a wrong value. POSTGRES_PASSWORD may be the absolute path of a mounted file.
    """
    return {
        "host": settings.text("POSTGRES_HOST", "pgvector"),
        "port": settings.integer("POSTGRES_PORT", 5432, least=1, most=65535),
        "dbname": settings.text("POSTGRES_DB", "llama_agents"),
        "user": settings.text("POSTGRES_USER", "postgres"),
        "password": settings.mounted("POSTGRES_PASSWORD"),
        "connect_timeout": 3,
        "application_name": "self-service-agent",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }


def direct_settings() -> dict[str, Any]:
    """The same, of PostgreSQL itself where POSTGRES_HOST is a PgBouncer: POSTGRES_DIRECT_HOST and POSTGRES_DIRECT_PORT.

    For what needs a session of its own: LISTEN, and the lock of the migrations. Raises SettingError for a wrong value.
    """
    pooled = connection_settings()
    return {
        **pooled,
        "host": settings.text("POSTGRES_DIRECT_HOST", pooled["host"]),
        "port": settings.integer("POSTGRES_DIRECT_PORT", pooled["port"], least=1, most=65535),
    }


def load_queries() -> dict[str, str]:
    """The statements of `sql/queries.sql` by name."""
    text = files("common").joinpath("sql/queries.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    return dict(zip(parts[1::2], (_COMMENT.sub("", part).strip() for part in parts[2::2]), strict=True))


class Database:
    """A pool of POOL_MAX connections (default 4), in autocommit: every statement is a step, and a step is one statement.

    POSTGRES_PREPARE=false switches prepared statements off, for a PgBouncer older than 1.21 in transaction mode.
    """

    name = "database"

    def __init__(self) -> None:
        self._connect = connection_settings()
        self._direct = direct_settings()
        self._queries = load_queries()
        REGISTRY.register(metrics.DATABASE_UP)
        size = settings.integer("POOL_MAX", 4, least=1, most=100)
        prepare = settings.flag("POSTGRES_PREPARE", default=True)
        self._pool: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
            kwargs={
                **self._connect,
                "autocommit": True,
                "row_factory": scalar_row,
                "prepare_threshold": 3 if prepare else None,
            },
            min_size=1,
            max_size=size,
            open=False,
            max_idle=300,
            reconnect_timeout=2.0,  # give up a dead address soon; the next statement asks again
            name="database",
        )
        metrics.watch_pool(self._pool.get_stats)

    def start(self) -> None:
        """Begin connecting in the background."""
        self._pool.open(wait=False)

    def close(self) -> None:
        """Close every connection."""
        self._pool.close(timeout=2)

    def dsn(self) -> dict[str, Any]:
        """The parameters of a connection to PostgreSQL itself, which is not of the pool (LISTEN)."""
        return self._direct

    def step(self, name: str, parameters: Mapping[str, Any], *, patience: float = 3.0) -> Any:
        """Run the named statement and return its one value: one round trip, committed when this returns.

        `patience`: how many seconds to wait for a connection of the pool.
        Raises Unavailable when the database cannot be reached or refuses for a reason that passes, Malformed when a
        parameter can never be stored (a NUL byte).
        """
        try:
            try:
                value = self._run(name, parameters, patience)
            except PoolTimeout:
                raise  # an OperationalError too, but there is no connection to try once more with
            except psycopg.OperationalError:
                # Perhaps only this connection was cut (a restart, a failover): throw out the dead ones, try once more.
                # Every statement of ours may be run twice.
                self._pool.check()
                value = self._run(name, parameters, patience)
        except psycopg.DataError as error:
            log.warning("a value cannot be stored", extra={"statement": name, "sqlstate": error.sqlstate})
            raise Malformed("A value cannot be stored.") from error
        except (psycopg.Error, PoolTimeout, PoolClosed, TooManyRequests) as error:
            metrics.DATABASE_UP.set(0)
            metrics.DATABASE_ERRORS.labels(type(error).__name__).inc()
            # The class and the SQLSTATE only: a server's message may quote a row.
            log.warning(
                "a statement failed",
                extra={
                    "statement": name,
                    "error": type(error).__name__,
                    "sqlstate": getattr(error, "sqlstate", None),
                },
            )
            raise Unavailable(_AWAY) from error
        metrics.DATABASE_UP.set(1)
        return value

    def _run(self, name: str, parameters: Mapping[str, Any], patience: float) -> Any:
        faults.point(f"step.{name}.before")
        started = time.monotonic()
        with tracing.statement(name, self._connect), self._pool.connection(patience) as connection:
            value = connection.execute(self._queries[name], parameters).fetchone()
        metrics.statement(name).observe(time.monotonic() - started)
        faults.point(f"step.{name}.after")
        return value

    def check(self) -> None:
        """Whether the database answers and has the tables.

        Raises Unavailable when not.
        """
        if self.step("ready", {}, patience=1.0) is None:
            metrics.DATABASE_UP.set(0)
            raise Unavailable("The database has no tables yet: the migrations have not run.")
