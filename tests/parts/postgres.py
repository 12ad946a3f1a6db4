"""A real PostgreSQL for the tests: the wheel's server, on a port of its own, that a test may stop and start."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from infra.local.console import Console
from infra.local.postgres import Cluster
from tests.parts.net import free_port

ROOT = Path(__file__).parents[2]


class Postgres:
    """One server process with the database `llama_agents`, migrated by the tree `root`."""

    def __init__(self, directory: Path, root: Path = ROOT) -> None:
        logs = directory / "logs"
        logs.mkdir(parents=True)
        self._log = (logs / "server.log").open("ab")
        self._cluster = Cluster(directory / "postgres", logs, free_port(), Console(self._open_devnull()), fsync=False)
        self._process: subprocess.Popen[bytes] | None = None
        asyncio.run(self._cluster.prepare())
        self.start()
        asyncio.run(self._cluster.create_database())
        self.migrate(root)

    def migrate(self, root: Path = ROOT) -> None:
        """Run the migrations of a tree."""
        subprocess.run([sys.executable, "-m", "infra.migrations"], cwd=root, env=self.environment(), check=True)

    @staticmethod
    def _open_devnull() -> Any:
        return Path(os.devnull).open("w")

    def environment(self) -> dict[str, str]:
        """The environment of a process that is to use this database."""
        return {**os.environ, **self._cluster.database.environment()}

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection in autocommit."""
        return psycopg.connect(**self._cluster.database.parameters())

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Every row of a statement."""
        with self.connect() as connection:
            found = connection.execute(statement, parameters)
            return found.fetchall() if found.description else []

    def empty(self) -> None:
        """Delete what tests wrote; the integrations' rows are again those of the migrations."""
        self.query("TRUNCATE request_logs, request_sessions, dead_letters, response_chunks, response_readers")
        self.query("DELETE FROM integration_configs WHERE integration_key <> ''")
        self.query(
            "UPDATE integration_configs SET enabled = true, session_scope = 'user', default_agent_id = NULL,"
            " queue_limit = 50, delivery = '{}'"
        )

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        program = self._cluster.program()
        identity = program.identity
        self._process = subprocess.Popen(
            program.command,
            cwd=program.directory,
            env=dict(program.environment),
            user=identity.uid if identity else None,
            group=identity.gid if identity else None,
            extra_groups=[] if identity else None,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + 30
        while not asyncio.run(self._cluster.answers()):
            assert self._process.poll() is None, "PostgreSQL ended while it was starting"
            assert time.monotonic() < deadline, "PostgreSQL did not start within 30 s"
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server by an immediate shutdown, as a crash would; returns when it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        self._log.close()
