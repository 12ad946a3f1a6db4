"""The adapter in front of the real Llama Stack server, and the agents that this repository ships."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.agent.support import FUNCTION, Gateway
from tests.parts.llama import DemoModel

# Importable only now: `support` puts the function's directory on the path, as the host does.
from agents import Agents  # isort: skip
from llama import Llama  # isort: skip


@pytest.fixture(scope="session")
def shared_llama(llama_stack: str) -> Iterator[Llama]:
    client = Llama(llama_stack, None, timeout=30)
    client.start()
    yield client
    client.close()


@pytest.fixture
def llama(shared_llama: Llama, demo_model: DemoModel) -> Llama:
    """The adapter in front of the real server, whose model is as new."""
    return shared_llama


@pytest.fixture(scope="session")
def shipped() -> Agents:
    """The agents that this repository ships."""
    return Agents.load(FUNCTION / "agents", {})


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            there = told.old_path == ("/openai/" in self.path)
            self.send(*((200, {}, b'{"data": []}') if there else (404, {}, b'{"detail": "Not Found"}')))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            told.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send(*told.answers.pop(0))

        def send(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    told = Gateway(f"http://127.0.0.1:{httpd.server_port}")
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield told
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Llama]]:
    """Make adapters that are closed at the end of the test."""
    made: list[Llama] = []

    def make(url: str, *, api_key: str | None = None, timeout: float = 10.0) -> Llama:
        made.append(Llama(url, api_key, timeout))
        return made[-1]

    yield make
    for client in made:
        client.close()
