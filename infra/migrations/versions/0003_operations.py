"""Runs `0003_operations.sql`."""

from infra.migrations.sql import run_file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_file(__file__)
