"""The platform as a process, and what the tests look at it with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from urllib3.exceptions import HTTPError

from tests.parts.net import Answer, call

ROOT = Path(__file__).parents[2]
DEADLINE = 40.0  # seconds; generous, since the machine may be busy
TOPOLOGY = """
event_prefix: com.self-service-agent
broker: {dead_letter: dead-letter}
functions:
  ingest-web: {kind: ingest, paths: [/api/v1/requests/web], threads: 4, needs: [broker]}
  dead-letter: {kind: event, wakes_on: [], threads: 2, needs: [database, broker]}
  request-status: {kind: read, paths: [/api/v1/requests, /api/v1/sessions], threads: 8, needs: [database]}
"""
_MARK = "PLATFORM_TEST_MARK"
# The platform's own variables must not come from whoever runs the tests.
_CLEARED = ("PORT", "HOST", "STATE_DIR", "POSTGRES_HOST", "SLACK_BOT_TOKEN", "AUTH_MODE", "LLAMA_STACK_URL", "PLATFORM_LOG")

T = TypeVar("T")


def until(what: Callable[[], T], why: str, seconds: float = DEADLINE) -> T:
    """Give the first true value of `what`; fail with `why` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {why}"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended, and that nobody has asked about yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


class HealthyServer:
    """An HTTP server that answers 200 to every GET: a Llama Stack server, as far as the platform looks."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Platform:
    """`python -m infra.local` with a state directory, and every process that came of it."""

    def __init__(self, state: Path, environment: dict[str, str], topology: Path, root: Path = ROOT) -> None:
        self.state = state
        self._mark = uuid.uuid4().hex
        self.lines: list[str] = []
        kept = {name: value for name, value in os.environ.items() if name not in _CLEARED}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "infra.local", "--topology", str(topology)],
            cwd=root,
            env=kept | {"STATE_DIR": str(state), "PORT": "0", "PLATFORM_FSYNC": "no", _MARK: self._mark} | environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())

    def output(self) -> str:
        """What it said so far."""
        return "\n".join(self.lines)

    def wait_said(self, text: str, times: int = 1) -> str:
        """Wait for a line that contains `text`, the last of `times` of them."""

        def found() -> str:
            having = [line for line in self.lines if text in line]
            if len(having) >= times:
                return having[times - 1]
            assert self.process.poll() is None, f"the platform ended:\n{self.output()}"
            return ""

        return until(found, f"{text!r} in:\n{self.output()}")

    def wait_ready(self) -> None:
        """Wait until everything is ready; `url` is the front door from then on."""
        self.url = self.wait_said("Ready: ").split()[1]
        self.wait_healthy()

    def wait_healthy(self) -> None:
        """Wait until every function is ready."""
        until(lambda: call("GET", f"{self.url}/health").status == 200, f"GET /health is 200:\n{self.output()}")

    def get(self, path: str) -> Answer:
        """GET a path of the front door."""
        return call("GET", self.url + path)

    def description(self) -> Any:
        """GET /_platform."""
        return self.get("/_platform").json()

    def answers(self) -> bool:
        """Tell whether anything answers at the front door."""
        try:
            self.get("/health")
        except HTTPError:
            return False
        return True

    def processes(self) -> list[int]:
        """Every process of it that runs: those that inherited its mark, and PostgreSQL's, which hide their environment."""
        found = []
        mark = f"{_MARK}={self._mark}".encode()
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = mark in (directory / "environ").read_bytes()
                is_ours = is_ours or (directory / "cwd").readlink().is_relative_to(self.state)
            except OSError:  # it ended while we looked, or is none of ours
                continue
            if is_ours and is_alive(int(directory.name)):
                found.append(int(directory.name))
        return found

    def stop(self) -> int:
        """SIGTERM; give the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; give the exit code."""
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(DEADLINE)
