"""Starting one process so that it cannot outlive the platform, and reading what it writes."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_LOG_LIMIT = 16 * 1024 * 1024  # bytes; a log that is longer at a start is put aside, and the one put aside before is deleted
_GATHER = 0.05  # seconds that output is left in the pipe after a read: a busy function writes hundreds of lines in one
_MUCH = 32 * 1024  # bytes at once of a process that would soon have to wait for the pipe (64 KiB)
_TAIL = 4096  # bytes of output kept to say why a process ended


@dataclass(frozen=True, slots=True)
class Identity:
    """The user to run as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. Standard output and error go to the file `log`.

    `stop_signal` asks it to end, `grace` is how many seconds it has for that, `orphan_signal` is what the kernel sends it
    when the platform is gone (Linux). `shows_warnings` means: its JSON log lines from WARNING up reach the terminal.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    identity: Identity | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    grace: float = 15.0
    shows_warnings: bool = False


class Output(asyncio.Protocol):
    """Writes a process's output to its log and remembers the end of it; `on_line` gets every full line, if it is given."""

    def __init__(self, log: Path, on_line: Callable[[bytes], None] | None) -> None:
        self._file = log.open("ab", buffering=0)
        self._on_line = on_line
        self._rest = b""
        self._tail = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read (asyncio calls this)."""
        self._pipe = cast(asyncio.ReadTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Take what the process wrote (asyncio calls this)."""
        if len(data) < _MUCH:
            self._pipe.pause_reading()
            asyncio.get_running_loop().call_later(_GATHER, self._read_on)
        self._file.write(data)
        self._tail = (self._tail + data)[-_TAIL:]
        if self._on_line is not None:
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._on_line(line)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Note that nothing more will come (asyncio calls this)."""
        self._file.close()
        if not self.ended.done():
            self.ended.set_result(None)

    def _read_on(self) -> None:
        if not self.ended.done():
            self._pipe.resume_reading()

    def last_line(self) -> str:
        """Give the last line that is not empty, of a JSON log line its message; "" when nothing was written."""
        for line in reversed(self._tail.split(b"\n")):
            if line.strip():
                return _message(line.strip())
        return ""


def _message(line: bytes) -> str:
    try:
        record = json.loads(line)
    except ValueError:
        return line.decode(errors="replace")
    return str(record.get("message", record)) if isinstance(record, dict) else str(record)


async def spawn(program: Program, on_line: Callable[[bytes], None] | None = None) -> tuple[Process, Output]:
    """Start a program in a session of its own. Call it on the main thread only: the kernel ties the orphan signal to it.

    Raises OSError when the program cannot be started.
    """
    _put_aside(program.log)
    reading, writing = os.pipe()
    output = Output(program.log, on_line)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: output, os.fdopen(reading, "rb", buffering=0))
    try:
        process = await asyncio.create_subprocess_exec(
            *program.command,
            env=dict(program.environment),
            stdin=DEVNULL,
            stdout=writing,
            stderr=writing,
            preexec_fn=_preparation(program),
        )
    except OSError:
        transport.close()
        raise
    finally:
        os.close(writing)
    return process, output


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that `spawn` started and to what it started itself; nothing happens when all are gone."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
        return


def _put_aside(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))


def _preparation(program: Program) -> Callable[[], None]:
    """Give what the child does between fork and exec; everything that it needs is looked up before."""
    platform = os.getpid()
    directory, identity, orphan_signal = str(program.directory), program.identity, int(program.orphan_signal)

    def prepare() -> None:
        os.setsid()  # Ctrl-C at the terminal is for the platform, which stops its processes in order
        os.chdir(directory)  # before the user changes: it may not be able to come here by itself
        if identity is not None:
            os.setgroups([])
            os.setgid(identity.gid)
            os.setuid(identity.uid)
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, orphan_signal, 0, 0, 0)  # after setuid, which would clear it
            if os.getppid() != platform:  # the platform died before the line above
                os._exit(1)

    return prepare
