"""Runs `0007_told.sql`."""

from infra.migrations.sql import run_file

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_file(__file__)
