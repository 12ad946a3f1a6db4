"""The command as a process: through pipes, and on a terminal of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "infra.cli"]
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\r")
_SECONDS = 60.0


@dataclass(frozen=True)
class Ran:
    """What a run printed, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output, which is one JSON object and nothing else."""
        [line] = self.out.splitlines()
        return json.loads(line)


class Person:
    """Somebody with a home directory of their own, who types the command."""

    def __init__(self, home: Path, server: str, name: str = "ann") -> None:
        self.home = home
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENT_", "XDG_", "_AGENT"))}
        self.environment = {**kept, "HOME": str(home), "AGENT_URL": server, "AGENT_USER": name, "NO_PROXY": "127.0.0.1"}

    def run(self, *arguments: str, stdin: str | bytes = b"", **environment: str) -> Ran:
        """Run the command with `stdin` through a pipe."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env={**self.environment, **environment},
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    def terminal(self, *arguments: str) -> Terminal:
        """Run the command on a terminal."""
        return Terminal([*COMMAND, *arguments], self.environment)


class Terminal:
    """A process on a pseudo terminal of 100 columns; what it shows, without escape sequences."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        sized = {**environment, "COLUMNS": "100", "LINES": "40", "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=sized, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(slave)
        self._seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 65536)
            except OSError:  # the process has closed its side
                return
            if not piece:
                return
            self._seen += piece

    def raw(self) -> str:
        """Everything that was sent to the terminal."""
        return self._seen.decode(errors="replace")

    def text(self) -> str:
        """The same without escape sequences."""
        return _ESCAPES.sub("", self.raw())

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until `text` was shown so many times."""
        deadline = time.monotonic() + _SECONDS
        while self.text().count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} was not shown: {self.text()!r}"
            assert self.process.poll() is None or self.text().count(text) >= times, f"it ended: {self.text()!r}"
            time.sleep(0.02)

    def type(self, text: str) -> None:
        """Type on its keyboard; \\x03 is Ctrl-C, \\x04 is Ctrl-D."""
        os.write(self._master, text.encode())

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(_SECONDS)
        self._reader.join(_SECONDS)
        return code

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(_SECONDS)
        os.close(self._master)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C on it is a signal
