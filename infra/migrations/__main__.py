"""`python -m infra.migrations [REVISION]`: bring the database of POSTGRES_* to the newest schema (or to REVISION)."""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from common.database import direct_settings
from common.errors import SettingError


def migrate(revision: str = "head") -> None:
    """Run every migration up to `revision` that the database has not seen. Idempotent; safe to run twice at once.

    Raises sqlalchemy.exc.OperationalError when the database cannot be reached.
    """
    settings = direct_settings()
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(**settings), poolclass=NullPool)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def main() -> int:
    """Migrate; 0 when the schema is as asked for, 1 with one line that says why not."""
    try:
        migrate(*sys.argv[1:2])
    except SettingError as error:
        sys.stderr.write(f"migrations: {error}\n")
        return 1
    except OperationalError as error:
        sys.stderr.write(f"migrations: the database does not answer ({type(error.orig).__name__})\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
