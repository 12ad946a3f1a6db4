"""A real Llama Stack server in front of the scripted demo model, and the model's controls."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from urllib3.exceptions import HTTPError

from infra.local.llama import config, environment, server
from tests.parts.net import call, free_port

ROOT = Path(__file__).parents[2]
_START_SECONDS = 90.0
VENV = Path(os.environ.get("LLAMA_STACK_VENV") or ROOT / ".state" / "llama-stack")  # where the server is installed


class DemoModel:
    """The demo model's process and controls."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "infra.local.llama.demo_model", "--port", str(port)]
        self._process = start(command, dict(os.environ), directory / "model.log", f"{self.url}/health")

    def control(self, **settings: int) -> None:
        """Set delay_ms, fail_next, status."""
        assert call("POST", f"{self.url}/_control", json_body=settings).status == 200

    def reset(self) -> None:
        """Forget the calls and what was set."""
        assert call("POST", f"{self.url}/_control/reset").status == 200

    def calls(self) -> list[dict[str, Any]]:
        """Every call since the reset: last_user_message, started, ended, …"""
        return list(call("GET", f"{self.url}/_control/calls").json()["calls"])

    def wait_for_calls(self, count: int) -> None:
        """Wait until that many calls have begun."""
        deadline = time.monotonic() + 20
        while len(self.calls()) < count:
            assert time.monotonic() < deadline, f"only {len(self.calls())} of {count} calls came"
            time.sleep(0.02)

    def close(self) -> None:
        """Stop it."""
        stop(self._process)


class LlamaStack:
    """The server's process; its packages are installed once and kept in .state (or LLAMA_STACK_VENV)."""

    def __init__(self, directory: Path, model: DemoModel) -> None:
        python = environment.ensure(VENV, lambda line: print(line, file=sys.stderr))  # noqa: T201 - minutes, the first time
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        run = config.write(directory, port=port, model_url=f"{model.url}/v1")
        settings = server.environment(directory, os.environ)
        self._process = start(
            server.command(python, run, port), settings, directory / "llama-stack.log", server.health_url(port)
        )

    def close(self) -> None:
        """Stop it."""
        stop(self._process)


def start(command: list[str], environment: dict[str, str], log: Path, health: str) -> subprocess.Popen[bytes]:
    """Start a process and wait until `health` answers 200."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if call("GET", health).status == 200:
                return process
        except HTTPError:
            pass
        time.sleep(0.05)
    stop(process)
    raise AssertionError(f"{command[:3]} did not become ready:\n{log.read_text(errors='replace')[-3000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and see to it."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
