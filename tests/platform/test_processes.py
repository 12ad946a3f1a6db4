"""Supervision of one process: real small programs, on the event loop that the platform uses."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import uvloop

from infra.local.console import Console
from infra.local.failure import PlatformError
from infra.local.ports import PortBlock
from infra.local.processes import Child, run_once
from infra.local.spawn import Program
from tests.platform.support import is_alive, until

PATIENCE = 20.0  # seconds


def program(directory: Path, script: str, *, grace: float = 10.0, warnings: bool = False) -> Program:
    return Program(
        name="small",
        command=(sys.executable, "-c", script),
        environment=dict(os.environ),
        directory=directory,
        log=directory / "logs" / "small.log",
        grace=grace,
        shows_warnings=warnings,
    )


async def wait_for(what: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not what():
            await asyncio.sleep(0.02)


async def is_there(file: Path) -> bool:
    return file.exists()


def supervise(
    directory: Path, script: str, use: Callable[[Child], Awaitable[None]], *, grace: float = 10.0, warnings: bool = False
) -> str:
    """Run a child whose script makes the file `ready`, `use` it, stop it; give what was shown."""
    shown = io.StringIO()

    async def scenario() -> None:
        one = program(directory, script, grace=grace, warnings=warnings)
        child = Child(one, lambda: is_there(directory / "ready"), Console(shown))
        running = asyncio.create_task(child.run())
        try:
            using = asyncio.ensure_future(use(child))
            await asyncio.wait({running, using}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
            if running.done():
                running.result()
            await using
        finally:
            await child.stop()
            await running

    uvloop.run(scenario())
    return shown.getvalue()


def runs_anew(child: Child, old: int) -> bool:
    return child.pid not in (None, old) and child.is_ready


READY = "import pathlib, time, os, signal\npathlib.Path('ready').touch()\n"


def test_a_process_that_dies_is_started_again_and_said_so(tmp_path: Path) -> None:
    async def use(child: Child) -> None:
        await child.was_ready.wait()
        for number in (1, 2):
            pid = child.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await wait_for(partial(runs_anew, child, pid))
            assert child.restarts == number

    shown = supervise(tmp_path, READY + "time.sleep(60)", use)

    assert shown.count("small was ended by SIGKILL; it is started again") == 2
    assert shown.count("small is back") == 2


def test_a_process_that_refuses_its_settings_is_not_started_again(tmp_path: Path) -> None:
    async def use(child: Child) -> None:
        await asyncio.Event().wait()

    with pytest.raises(PlatformError, match=r"^small ended with exit code 78: THING must be a number$"):
        supervise(tmp_path, "import sys; print('THING must be a number', file=sys.stderr); sys.exit(78)", use)


def test_a_process_that_dies_again_and_again_before_it_is_ready_is_given_up(tmp_path: Path) -> None:
    script = "open('starts', 'a').write('x')\nprint('no luck')\nraise SystemExit(1)"

    async def use(child: Child) -> None:
        await asyncio.Event().wait()

    with pytest.raises(PlatformError, match="small ended with exit code 1: no luck"):
        supervise(tmp_path, script, use)
    assert (tmp_path / "starts").read_text() == "x" * 5


def test_a_process_that_ignores_the_signal_is_killed_after_its_grace_with_what_it_started(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('other', 'w').write(str(other.pid))\n"
        "pathlib.Path('ready').touch()\n"
        "time.sleep(60)"
    )

    async def use(child: Child) -> None:
        await child.was_ready.wait()

    shown = supervise(tmp_path, READY.replace("pathlib.Path('ready').touch()\n", "") + script, use, grace=0.3)

    assert "small did not stop within 0.3 s and is killed" in shown
    other = int((tmp_path / "other").read_text())
    until(lambda: not is_alive(other), "what it started is gone")


def test_output_goes_to_the_log_and_a_warning_that_repeats_is_shown_once(tmp_path: Path) -> None:
    line = """print('{"level": "%s", "message": "%s", "status": 409, "request_id": "r%d"}', flush=True)"""
    loud = [line % ("WARNING", "loud", n) for n in range(3)]
    script = "\n".join([READY, line % ("INFO", "quiet", 0), *loud, "time.sleep(60)"])

    async def use(child: Child) -> None:
        log = tmp_path / "logs" / "small.log"
        await wait_for(lambda: log.exists() and log.read_text().count("loud") == 3)

    shown = supervise(tmp_path, script, use, warnings=True)

    assert "small: WARNING loud status=409 (request r0)" in shown
    assert shown.count("loud") == 1
    assert "quiet" not in shown


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent death signal is Linux's")
def test_a_process_does_not_outlive_the_platform(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, pathlib, sys, uvloop\n"
        "from infra.local.spawn import Program, spawn\n"
        "async def main():\n"
        "    here = pathlib.Path(sys.argv[1])\n"
        "    command = (sys.executable, '-c', 'import time; time.sleep(60)')\n"
        "    program = Program('small', command, os.environ, here, here / 'log')\n"
        "    process, _ = await spawn(program)\n"
        "    print(process.pid, flush=True)\n"
        "    await process.wait()\n"
        "uvloop.run(main())"
    )

    async def scenario() -> None:
        platform = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(tmp_path), cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE
        )
        assert platform.stdout is not None
        child = int(await platform.stdout.readline())
        assert is_alive(child)
        platform.kill()
        await platform.wait()
        await wait_for(lambda: not is_alive(child))

    asyncio.run(scenario())


def test_a_program_that_is_run_once_gives_its_last_line_and_its_failure(tmp_path: Path) -> None:
    async def scenario() -> None:
        assert await run_once(program(tmp_path, "print('one'); print('two'); print()")) == "two"
        with pytest.raises(PlatformError, match="small ended with exit code 3: why"):
            await run_once(program(tmp_path, "print('why'); raise SystemExit(3)"))
        missing = program(tmp_path, "")
        with pytest.raises(PlatformError, match="small cannot be started"):
            await run_once(Program("small", ("/no/such/program",), {}, tmp_path, missing.log))

    uvloop.run(scenario())


def test_a_program_that_is_run_once_ends_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        running = asyncio.create_task(
            run_once(program(tmp_path, READY + "open('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"))
        )
        await wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        running.cancel()
        await asyncio.wait({running})
        pid = int((tmp_path / "pid").read_text())
        await wait_for(lambda: not is_alive(pid))

    uvloop.run(scenario())


def test_two_platforms_never_share_a_port() -> None:
    one, other = PortBlock(), PortBlock()
    try:
        assert not {one.take() for _ in range(31)} & {other.take() for _ in range(31)}
        with pytest.raises(PlatformError, match="more than 31"):
            one.take()
    finally:
        one.close()
        other.close()
