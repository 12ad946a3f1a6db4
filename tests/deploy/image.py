"""What a buildpack makes of a function's directory, without a container: only that directory, an environment of its own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from urllib3.exceptions import HTTPError

from infra.deploy import bytecode
from infra.deploy.directories import PYTHON
from tests.parts.functions import ROOT
from tests.parts.net import Answer, call, free_port


def python() -> str:
    """The Python that func.yaml asks for, where this machine has it; else the one that runs the tests."""
    return bytecode.interpreter(PYTHON) or sys.executable


class Image:
    """functions/<name>/ copied alone to `place`, with the wheel in it, and its requirements installed."""

    def __init__(self, name: str, wheel: Path, place: Path, interpreter: str) -> None:
        self.name = name
        self.directory = place / name
        shutil.copytree(ROOT / "functions" / name, self.directory, ignore=shutil.ignore_patterns("__pycache__", "wheels"))
        (self.directory / "wheels").mkdir()
        shutil.copy(wheel, self.directory / "wheels")
        self._environment = place / "environment"
        self._uv("venv", "--quiet", "--no-project", "--python", interpreter, str(self._environment))
        python = str(self._environment / "bin/python")
        self._uv("pip", "install", "--quiet", "--python", python, "-r", "requirements.txt")

    def installed(self) -> list[str]:
        """The names of the packages in its environment."""
        listed = self._uv("pip", "list", "--quiet", "--python", str(self._environment / "bin/python"), "--format", "json")
        return [package["name"] for package in json.loads(listed)]

    def _uv(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "uv", *arguments], cwd=self.directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"functions/{self.name}: {done.stderr}"
        return done.stdout

    def start(self, settings: dict[str, str], command: list[str] | None = None) -> Container:
        """Start the Procfile's line (or `command`) and wait until it is ready."""
        line = (self.directory / "Procfile").read_text().strip().removeprefix("web: ")
        path = f"{self._environment / 'bin'}{os.pathsep}/usr/bin:/bin"
        return Container(self.name, command or shlex.split(line), self.directory, {**settings, "PATH": path})


class Container:
    """A started image; `url` is its address. It knows nothing of this repository or this shell."""

    def __init__(self, name: str, command: list[str], directory: Path, environment: dict[str, str]) -> None:
        self.name = name
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._output = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - as long as the process
        program = shutil.which(command[0], path=environment["PATH"]) or command[0]
        self.process = subprocess.Popen(
            [program, *command[1:]],
            cwd=directory,
            env={**environment, "PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 60
        while not self._ready():
            assert self.process.poll() is None, f"{command}: {self.output()}"
            assert time.monotonic() < deadline, f"{command} was not ready within 60 s: {self.output()}"
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            return self.call("GET", "/health/readiness").status == 200
        except HTTPError:
            return False

    def call(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Send one request."""
        return call(method, self.url + path, body=body, headers=headers)

    def output(self) -> str:
        """Everything it has written so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        code = self.process.wait(30)
        self._output.close()
        return code
