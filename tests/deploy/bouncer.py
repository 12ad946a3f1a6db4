"""A real PgBouncer (Debian's package) in front of the tests' PostgreSQL, in transaction mode."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psycopg

from tests.parts import debian
from tests.parts.net import free_port
from tests.platform.support import until

SERVERS = 3  # connections to PostgreSQL that it opens at most
_CONFIGURATION = """[databases]
{database} = host={host} port={server_port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
admin_users = admin
pool_mode = transaction
default_pool_size = {servers}
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
"""


class PgBouncer:
    """Its process. `port` is where it listens, for whoever knows any password."""

    def __init__(self, directory: Path, database: dict[str, str]) -> None:
        self.port = free_port()
        self._log = directory / "pgbouncer.log"
        configuration = directory / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(
                database=database["POSTGRES_DB"],
                host=database["POSTGRES_HOST"],
                server_port=database["POSTGRES_PORT"],
                user=database["POSTGRES_USER"],
                password=database["POSTGRES_PASSWORD"],
                port=self.port,
                servers=SERVERS,
            )
        )
        with self._log.open("wb") as output:
            # It refuses to run as root, and reads its file before it becomes somebody else.
            user = ["-u", "nobody"] if os.geteuid() == 0 else []
            command = [debian.program("pgbouncer"), *user, str(configuration)]
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        until(self._answers, "PgBouncer listens")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            self.show("VERSION")
        except psycopg.OperationalError:
            return False
        return True

    def show(self, what: str) -> list[dict[str, object]]:
        """A table of its console (SHOW …): a row each, by column."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname="pgbouncer",
            user="admin",
            password="any",  # pragma: allowlist secret
            autocommit=True,
            connect_timeout=3,
        ) as console:
            found = psycopg.ClientCursor(console).execute(f"SHOW {what}")
            names = [column.name for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(20)
