"""A function in its own process, behind the production host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from urllib3.exceptions import HTTPError

from tests.parts.net import Answer, call, free_port

ROOT = Path(__file__).parents[2]
# What a developer's own shell may hold and a function would read.
_FOREIGN = ("K_SINK", "BROKER_URL", "AUTH_MODE", "LOG_LEVEL", "THREADS", "PORT", "TOOL_KEYS", "LLAMA_STACK_URL")


class Function:
    """`python -m common.host functions/<name>` with these settings; `url` is its address. `root` is another tree's."""

    def __init__(self, name: str, environment: dict[str, str], *, ready: bool = True, root: Path = ROOT) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        clean = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
        self._output = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "common.host", f"functions/{name}"],
            cwd=root,
            env={**clean, **environment, "PORT": str(self.port)},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self.wait_until("/health/readiness" if ready else "/health/liveness")

    def wait_until(self, path: str, status: int = 200, seconds: float = 30) -> None:
        """Wait until GET `path` answers `status`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.get(path).status == status:
                    return
            except HTTPError:
                assert self.process.poll() is None, f"{self.name} ended: {self.output()}"
            assert time.monotonic() < deadline, f"{self.name}{path} was not {status} within {seconds} s: {self.output()}"
            time.sleep(0.03)

    def get(self, path: str, **headers: str) -> Answer:
        """GET a path; underscores in header names stand for hyphens."""
        return call("GET", self.url + path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post_event(self, event: Event) -> Answer:
        """Deliver a CloudEvent as a broker does, in binary mode."""
        return call("POST", self.url + "/", body=event.body, headers=event.headers)

    def output(self) -> str:
        """Everything it has written so far."""
        position = self._output.seek(0)
        text = self._output.read().decode(errors="replace")
        assert position == 0
        return text

    def log(self) -> list[dict[str, Any]]:
        """Its log lines."""
        return [json.loads(line) for line in self.output().splitlines() if line.startswith("{")]

    def stop(self, number: int = signal.SIGTERM, seconds: float = 20) -> int:
        """Send a signal and wait for the end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)

    def close(self) -> None:
        """End it, by force if it must be."""
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._output.close()


@contextmanager
def running(names: Iterable[str], settings: dict[str, str]) -> Iterator[dict[str, Function]]:
    """Functions with the same settings, by name; started side by side, ended after the block."""
    with ExitStack() as ending, ThreadPoolExecutor(4) as pool:

        def start(name: str) -> tuple[str, Function]:
            function = Function(name, settings)
            ending.callback(function.close)
            return name, function

        yield dict(pool.map(start, names))


class Event:
    """A CloudEvent in binary mode, as it travels: attributes as ce- headers, and a body."""

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    @classmethod
    def of(cls, answer: Answer) -> Event:
        """The event that a function replied."""
        kept = {name: value for name, value in answer.headers.items() if name.startswith("ce-") or name == "content-type"}
        assert "ce-type" in kept, f"no CloudEvent: {answer.status} {answer.body!r}"
        return cls(kept, answer.body)

    def attribute(self, name: str) -> str:
        """An attribute's value."""
        return self.headers[f"ce-{name}"]

    def data(self) -> Any:
        """Its data."""
        return json.loads(self.body)

    def but(self, data: Any = None, **attributes: str | None) -> Event:
        """The same with other data or attributes; None takes an attribute away."""
        headers = {**self.headers, **{f"ce-{name}": value for name, value in attributes.items() if value is not None}}
        for name, value in attributes.items():
            if value is None:
                headers.pop(f"ce-{name}", None)
        return Event(headers, self.body if data is None else json.dumps(data).encode())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and (self.headers, self.body) == (other.headers, other.body)

    def __hash__(self) -> int:
        return hash((tuple(sorted(self.headers.items())), self.body))
