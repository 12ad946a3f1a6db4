"""The real broker in its own process, and real HTTP servers as its subscribers."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import urllib3
from aiohttp import web

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0  # seconds; generous, since the machine may be busy


@dataclass(frozen=True)
class Answer:
    """What a subscriber answers; `drop` breaks the connection instead, `pause` waits that many seconds first."""

    status: int = 202
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    drop: bool = False
    pause: float = 0.0


@dataclass(frozen=True)
class Received:
    """A request that a subscriber got; header names in lower case, `at` is monotonic."""

    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["ce-id"]


Script = Callable[[Received], Answer] | Sequence[Answer]


class Subscriber:
    """An HTTP server in a thread. It answers an event as `script[id]` says (a list's last answer repeats), else 202.

    While `gate` is closed it takes requests and does not answer.
    """

    def __init__(self, port: int = 0, default: Script = (Answer(),)) -> None:
        self.script: dict[str, Script] = {}
        self.received: list[Received] = []
        self.concurrent = 0
        self.most_concurrent = 0
        self._default = default
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._gate = asyncio.Event()
        self._gate.set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(port), self._loop).result(DEADLINE)
        self.url = f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(DEADLINE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    def close_gate(self) -> None:
        self._loop.call_soon_threadsafe(self._gate.clear)

    def open_gate(self) -> None:
        self._loop.call_soon_threadsafe(self._gate.set)

    def of(self, event_id: str) -> list[Received]:
        return [each for each in list(self.received) if each.headers.get("ce-id") == event_id]

    def wait_until(self, condition: Callable[[], bool], what: str = "") -> None:
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE), f"waited in vain: {what}"

    def wait_for(self, event_id: str, times: int = 1) -> list[Received]:
        self.wait_until(lambda: len(self.of(event_id)) >= times, f"{times} x {event_id}")
        return self.of(event_id)

    async def _listen(self, port: int) -> int:
        self._server = web.Server(self._answer, access_log=None)
        self._listener = await self._loop.create_server(self._server, "127.0.0.1", port, backlog=512)
        address: tuple[str, int] = self._listener.sockets[0].getsockname()
        return address[1]

    async def _close(self) -> None:
        self._listener.close()
        await self._server.shutdown(0.1)  # with 0 it would wait for ever

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(headers, await request.read(), time.monotonic())
        with self._changed:
            self.received.append(received)
            earlier = len(self.of(received.id)) - 1
            self.concurrent += 1
            self.most_concurrent = max(self.most_concurrent, self.concurrent)
            self._changed.notify_all()
        try:
            await self._gate.wait()
            script = self.script.get(received.id, self._default)
            answer = script(received) if callable(script) else script[min(earlier, len(script) - 1)]
            await asyncio.sleep(answer.pause)
        finally:
            self.concurrent -= 1
        if answer.drop:
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


class Broker:
    """One life of the broker process. The store in `directory` outlives it."""

    def __init__(
        self,
        directory: Path,
        topology: str,
        subscribers: Mapping[str, str],
        *options: str,
        before_exec: Callable[[], None] | None = None,
    ) -> None:
        table = directory / "topology.yaml"
        table.write_text(topology)
        command = [sys.executable, "-m", "infra.local.broker", "--port", "0", "--log-level", "DEBUG"]
        command += ["--store", str(directory / "broker.sqlite"), "--topology", str(table)]
        for name, url in subscribers.items():
            command += ["--subscriber", f"{name}={url}"]
        self.log: list[dict[str, Any]] = []
        self.raw_log: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [*command, *options], cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=before_exec
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self._http = urllib3.PoolManager(maxsize=32, retries=False)
        try:
            self.url = f"http://127.0.0.1:{self.wait_log('listening')['port']}"
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.raw_log.append(line)
                if line.startswith("{"):
                    self.log.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def lines(self, message: str, **fields: object) -> list[dict[str, Any]]:
        wanted = {"message": message, **fields}
        return [line for line in list(self.log) if wanted.items() <= line.items()]

    def wait_log(self, message: str, times: int = 1, **fields: object) -> dict[str, Any]:
        """Wait for a log line; the broker writes one when it accepted, delivered, retried or dead-lettered."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self.lines(message, **fields)) >= times, DEADLINE)
        found = self.lines(message, **fields)
        assert len(found) >= times, f"no log line {message} {fields} in:\n{''.join(self.raw_log[-20:])}"
        return found[-1]

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.process.kill()
        self._finish()

    def terminate(self) -> int:
        """End it as Kubernetes and Ctrl-C do; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self._finish()

    def _finish(self) -> int:
        status = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> urllib3.BaseHTTPResponse:
        return self._http.request(method, self.url + path, headers=headers, body=body, timeout=DEADLINE)

    def post(self, event_type: str, event_id: str, data: bytes = b"{}", **extensions: str) -> None:
        """Post an event in binary mode, which must be accepted."""
        response = self.request("POST", "/", event_headers(event_type, event_id, **extensions), data)
        assert (response.status, response.data) == (202, b"")

    def trace(self, request_id: str) -> list[dict[str, Any]]:
        document = self.request("GET", f"/_broker/trace/{request_id}").json()
        assert document["request_id"] == request_id
        events: list[dict[str, Any]] = document["events"]
        return events

    def stats(self) -> dict[str, Any]:
        document: dict[str, Any] = self.request("GET", "/_broker/stats").json()
        return document


def event_headers(event_type: str, event_id: str, **extensions: str) -> dict[str, str]:
    """The headers of an event in binary mode; its request id is its id unless given."""
    extensions = {"requestid": event_id, **extensions}
    return {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": "/test",
        "ce-type": event_type,
        "content-type": "application/json",
        **{f"ce-{name}": value for name, value in extensions.items()},
    }


def reply(event_type: str, event_id: str, data: bytes = b"{}", **extensions: str) -> Answer:
    """A CloudEvent as an answer, in binary mode."""
    return Answer(200, event_headers(event_type, event_id, **extensions), data)


def free_port() -> int:
    """A port that nothing listens on right now."""
    with Subscriber() as subscriber:
        return subscriber.port


@contextmanager
def subscribers(*names: str) -> Iterator[dict[str, Subscriber]]:
    """Subscribers by name."""
    running: dict[str, Subscriber] = {}
    try:
        for name in names:
            running[name] = Subscriber()
        yield running
    finally:
        for subscriber in running.values():
            subscriber.__exit__()
