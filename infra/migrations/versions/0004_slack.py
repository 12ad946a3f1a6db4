"""Runs `0004_slack.sql`."""

from infra.migrations.sql import run_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_file(__file__)
