"""A process that is kept running: started, probed until it is ready, started again when it dies, stopped in the end."""

from __future__ import annotations

import asyncio
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from infra.local.console import Console
from infra.local.failure import PlatformError
from infra.local.log_warnings import Warnings
from infra.local.spawn import Output, Program, signal_group, spawn

Probe = Callable[[], Awaitable[bool]]

_PROBE_EVERY = 0.1  # seconds
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0  # seconds between a death and the next start; doubled each time
_STABLE = 2.0  # seconds of life, and ready: then a death counts as the first one again
_HOPELESS = 5  # deaths in a row of a process that was never ready
# What a program says with when its settings are wrong (Unix usage error; EX_CONFIG of sysexits.h): trying again cannot help.
_CONFIGURATION = frozenset({2, 78})


@dataclass(frozen=True, slots=True)
class _End:
    """How a process ended: its exit code, the same in words, and whether it had been ready."""

    code: int
    reason: str
    was_ready: bool


class Child:
    """One program under supervision. `probe` answers whether it is ready, and is asked until it is.

    `pid` is None between a death and the next start; `restarts` counts the starts after the first.
    """

    def __init__(self, program: Program, probe: Probe, console: Console, *, log_all: bool = False) -> None:
        self.program = program
        self.pid: int | None = None
        self.restarts = 0
        self.is_ready = False
        self.was_ready = asyncio.Event()
        """Set once it has been ready for the first time."""
        self._probe = probe
        self._console = console
        self._log_all = log_all
        self._warnings = Warnings(program.name, console)
        self._stopping = asyncio.Event()
        self._process: Process | None = None
        self._done = asyncio.Event()
        self._done.set()

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    async def run(self) -> None:
        """Keep it running until `stop`.

        Raises PlatformError when it cannot be started, says that its settings are wrong, or dies again and again
        without ever having been ready.
        """
        self._done.clear()
        try:
            await self._run()
        finally:
            self._done.set()

    async def _run(self) -> None:
        deaths = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                process, output = await spawn(self.program, self._show if self._listens() else None)
            except OSError as error:
                raise PlatformError(f"{self.name} cannot be started: {error}") from None
            end = await self._watch(process, output)
            if self._stopping.is_set():
                return
            deaths = 1 if end.was_ready and time.monotonic() - started > _STABLE else deaths + 1
            if not self.was_ready.is_set() and (end.code in _CONFIGURATION or deaths >= _HOPELESS):
                raise PlatformError(f"{self.name} {end.reason}")
            self.restarts += 1
            self._console.warn(f"{self.name} {end.reason}; it is started again")
            delay = _FIRST_DELAY * 2 ** min(deaths - 1, 10)
            await _either(self._stopping.wait(), min(delay, _LONGEST_DELAY))

    async def stop(self) -> None:
        """Ask it to end, wait for its grace period, then kill it; returns when it is gone."""
        self._stopping.set()
        if self._process is not None:
            _send(self._process, self.program.stop_signal)
        if not await _either(self._done.wait(), self.program.grace):
            self._console.warn(f"{self.name} did not stop within {self.program.grace:g} s and is killed")
            self.kill()
            await self._done.wait()

    def kill(self) -> None:
        """End it at once, with everything that it started in its group."""
        self._stopping.set()
        if self.pid is not None:
            signal_group(self.pid, signal.SIGKILL)

    async def _watch(self, process: Process, output: Output) -> _End:
        """Wait for the process to end, probing it meanwhile."""
        self._process, self.pid = process, process.pid
        if self._stopping.is_set():  # asked to stop while it was being started
            _send(process, self.program.stop_signal)
        probing = asyncio.create_task(self._become_ready())
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            signal_group(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        finally:
            probing.cancel()
            was_ready = self.is_ready
            self._process, self.pid, self.is_ready = None, None, False
            signal_group(process.pid, signal.SIGKILL)  # what it may have left behind
            await _either(output.ended, 0.5)  # its last words; a descendant may hold the pipe for longer
        return _End(code, _reason(code, output.last_line()), was_ready)

    async def _become_ready(self) -> None:
        while not await self._probe():
            await asyncio.sleep(_PROBE_EVERY)
        self.is_ready = True
        self.was_ready.set()
        if self.restarts:
            self._console.done(f"{self.name} is back")

    def _listens(self) -> bool:
        return self._log_all or self.program.shows_warnings

    def _show(self, line: bytes) -> None:
        if self._log_all:
            self._console.plain(f"{self.name}: {line.decode(errors='replace')}")
        else:
            self._warnings.read(line)


async def run_once(program: Program, on_line: Callable[[bytes], None] | None = None) -> str:
    """Run a program to its end and give its last line. Cancelling kills it and what it started.

    Raises PlatformError with its last line when it fails or cannot be started.
    """
    try:
        process, output = await spawn(program, on_line)
    except OSError as error:
        raise PlatformError(f"{program.name} cannot be started: {error}") from None
    try:
        code = await process.wait()
        await _either(output.ended, 0.5)
    finally:
        signal_group(process.pid, signal.SIGKILL)
    if code != 0:
        raise PlatformError(f"{program.name} {_reason(code, output.last_line())}")
    return output.last_line()


def _send(process: Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except ProcessLookupError:
        return


def _reason(code: int, last_line: str) -> str:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{how}: {last_line}" if last_line else how


async def _either(what: Awaitable[object], seconds: float) -> bool:
    """Wait for something, at most so long; tell whether it came."""
    try:
        await asyncio.wait_for(what, seconds)
    except TimeoutError:
        return False
    return True
