"""Runs `0001_tables.sql`."""

from infra.migrations.sql import run_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_file(__file__)
