"""Runs the forward-only SQL files of `versions/` in order, once each, under one lock (Alembic's environment)."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

config = context.config
connection = config.attributes["connection"]

# Two migration Jobs at once: the second waits, then finds nothing to do. The number names this project's schema.
connection.execute(text("SELECT pg_advisory_lock(7374732)"))
connection.commit()  # the lock is the session's; each migration gets a transaction of its own
try:
    context.configure(connection=connection, version_table="self_service_agent_schema", transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
finally:
    connection.execute(text("SELECT pg_advisory_unlock(7374732)"))
    connection.commit()
