"""The functions' database: the one that POSTGRES_HOST names, or a PostgreSQL of ours; and its tables."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import psycopg

from infra.local.console import Console
from infra.local.crew import Crew
from infra.local.failure import PlatformError
from infra.local.ports import PortBlock
from infra.local.postgres import Cluster, connect
from infra.local.processes import run_once
from infra.local.programs import Programs
from infra.local.seed import local_webhook
from infra.local.settings import Settings

_SERVER = "postgresql"


class Data:
    """The database. `address` is where the functions find it.

    Raises PlatformError when it is to be ours and PostgreSQL is not installed.
    """

    def __init__(self, settings: Settings, ports: PortBlock, console: Console) -> None:
        self._console = console
        self._cluster: Cluster | None = None
        if settings.database is None:
            logs = settings.state / "logs"
            self._cluster = Cluster(settings.state / "postgres", logs, ports.take(), console, fsync=settings.fsync)
            self.address = self._cluster.database
        else:
            self.address = settings.database

    async def check(self) -> None:
        """Raise PlatformError when the database that POSTGRES_HOST names does not let us in."""
        if self._cluster is None:
            try:
                async with await connect(self.address):
                    return
            except psycopg.OperationalError as error:
                where = f"POSTGRES_HOST {self.address.host}, port {self.address.port}"
                raise PlatformError(f"{where}: {' '.join(str(error).split())}") from None

    async def start(self, crew: Crew) -> None:
        """Start the server if it is to be ours; returns when the database is there. Raises PlatformError."""
        if self._cluster is None:
            return
        await self._cluster.prepare()
        server = crew.start(self._cluster.program(), self._cluster.answers)
        await server.was_ready.wait()
        await self._cluster.create_database()
        self._console.done(f"PostgreSQL is ready on port {self.address.port}")

    async def bring_up_to_date(self, programs: Programs, webhook_origin: str | None) -> None:
        """Run the migrations, and have the local tool's answers delivered to the stand-in at `webhook_origin`.

        Raises PlatformError with one line when that cannot be done.
        """
        await run_once(programs.migrations(self.address))
        if webhook_origin is not None:
            try:
                await local_webhook(self.address, webhook_origin)
            except psycopg.Error as error:
                raise PlatformError(f"the local webhook cannot be written: {' '.join(str(error).split())}") from None
        self._console.done("the tables are up to date")

    async def stop(self, crew: Crew) -> None:
        """Stop the server if it is ours."""
        await crew.stop((_SERVER,))

    def describe(self, crew: Crew, *, with_password: bool) -> dict[str, Any]:
        """Give the database's part of GET /_platform; only our own password is ever shown."""
        at = self.address
        password = f":{quote(at.password, safe='')}" if self._cluster and with_password else ""
        host = f"[{at.host}]" if ":" in at.host else quote(at.host, safe="")
        url = f"postgresql://{quote(at.user, safe='')}{password}@{host}:{at.port}/{quote(at.name, safe='')}"
        return {"url": url, "pid": crew.pid(_SERVER)} if self._cluster else {"url": url}
