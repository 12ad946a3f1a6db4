"""The host's connections as a client or a broker keeps them: one answer after the other, in order, on one socket."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.parts.events import event
from tests.parts.functions import Event, Function
from tests.parts.net import free_port
from tests.parts.recorder import Recorder

READY = "com.self-service-agent.agent.response-ready"
ANSWER = {
    "request_id": "r1",
    "session_id": "s1",
    "integration_type": "web",
    "user_id": "ann",
    "status": "completed",
    "agent_id": "a",
    "content": "x",
    "error": None,
    "completed_at": "2026-01-02T03:04:05Z",
}


@pytest.fixture(scope="module")
def functions(recorder: Recorder) -> Iterator[dict[str, Function]]:
    settings = {
        "BROKER_URL": recorder.url,
        "AUTH_MODE": "none",
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": str(free_port()),  # none: what is asked here needs no database
        "THREADS": "4",
    }
    started = {name: Function(name, settings, ready=False) for name in ("ingest-web", "response-dispatch")}
    yield started
    for function in started.values():
        function.close()


def raw(path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def post(user: str) -> bytes:
    body = {"user_id": user, "content": "hello", "session_token": "t"}
    return raw("/", {"content-type": "application/json"}, json.dumps(body).encode())


class Client:
    """One connection."""

    def __init__(self, function: Function) -> None:
        self.socket = socket.create_connection(("127.0.0.1", function.port), timeout=10)
        self._rest = b""

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers (lower case), body."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._rest) < length:
            self._more()
        body, self._rest = self._rest[:length], self._rest[length:]
        return int(first.split()[1]), headers, body

    def _more(self) -> None:
        received = self.socket.recv(65536)
        assert received, "the connection was closed"
        self._rest += received


def delivery() -> bytes:
    sent: Event = event(READY, "r1.response", ANSWER, requestid="r1")
    return raw("/", sent.headers, sent.body)


def test_a_broker_keeps_its_connection_after_an_answer_without_content(functions: dict[str, Function]) -> None:
    client = Client(functions["response-dispatch"])
    for _ in range(3):
        client.socket.sendall(delivery())
        status, headers, _ = client.answer()
        assert (status, headers.get("connection"), headers.get("transfer-encoding")) == (204, None, None)


def test_who_asks_to_close_is_closed_after_an_answer_without_content(functions: dict[str, Function]) -> None:
    client = Client(functions["response-dispatch"])
    client.socket.sendall(delivery().replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n"))
    assert client.answer()[1]["connection"] == "close"
    assert client.socket.recv(1) == b""


def test_requests_that_come_before_the_answers_are_answered_in_order(
    functions: dict[str, Function], recorder: Recorder
) -> None:
    recorder.clear()
    client = Client(functions["ingest-web"])
    client.socket.sendall(b"".join(post(f"user{number}") for number in range(8)))
    answers = [client.answer() for _ in range(8)]
    assert [status for status, _, _ in answers] == [202] * 8
    asked = {found.data()["request_id"]: found.data()["user_id"] for found in recorder.wait_for(8)}
    assert [asked[json.loads(body)["request_id"]] for _, _, body in answers] == [f"user{number}" for number in range(8)]


def test_a_request_in_pieces_is_one_request(functions: dict[str, Function], recorder: Recorder) -> None:
    recorder.clear()
    client = Client(functions["ingest-web"])
    request = post("ann") + post("bob")
    for start in range(0, len(request), 7):
        client.socket.sendall(request[start : start + 7])
    assert [client.answer()[0] for _ in range(2)] == [202, 202]
    assert [found.data()["user_id"] for found in recorder.wait_for(2)] == ["ann", "bob"]


def test_an_answer_to_head_has_no_body_and_keeps_the_connection(functions: dict[str, Function]) -> None:
    client = Client(functions["ingest-web"])
    client.socket.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n")
    while not client._rest.endswith(b"\r\n\r\n"):
        client._more()
    assert client._rest.startswith(b"HTTP/1.1 200")
    client._rest = b""
    client.socket.sendall(post("ann"))
    assert client.answer()[0] == 202


def test_an_event_in_structured_mode_is_an_event_too(functions: dict[str, Function]) -> None:
    structured = {"specversion": "1.0", "id": "r1.response", "source": "/x", "type": READY, "data": ANSWER}
    client = Client(functions["response-dispatch"])
    client.socket.sendall(raw("/", {"content-type": "application/cloudevents+json"}, json.dumps(structured).encode()))
    assert client.answer()[0] == 204


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-type": READY}, b"{}"),  # no source
        ({"ce-specversion": "1.0", "ce-id": "", "ce-source": "/x", "ce-type": READY}, b"{}"),
        ({"ce-specversion": "9.9", "ce-id": "1", "ce-source": "/x", "ce-type": READY}, b"{}"),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": READY}, b"\xff{"),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": READY}, b"[1"),
        ({"content-type": "application/cloudevents+json"}, b"\xff"),
        ({"content-type": "application/cloudevents+json"}, b'["specversion"]'),
        ({"content-type": "application/cloudevents+json"}, b'{"specversion": "1.0", "data_base64": 1}'),
    ],
)
def test_what_is_no_event_of_ours_is_a_400(functions: dict[str, Function], headers: dict[str, str], body: bytes) -> None:
    client = Client(functions["response-dispatch"])
    client.socket.sendall(raw("/", headers, body))
    status, found, _ = client.answer()
    assert (status, found["content-type"]) == (400, "application/problem+json")


class SlowBroker:
    """Takes an event a while after it came."""

    def __init__(self, seconds: float = 0.5) -> None:
        self.came, self.taken = threading.Event(), threading.Event()
        broker = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                broker.came.set()
                time.sleep(seconds)
                broker.taken.set()
                self.send_response(202)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_with_a_slow_broker_as_many_threads_work_as_there_are_requests() -> None:
    """An ingest function begins with one thread and takes more when it is held up: 12 requests are no 12 rounds."""
    broker = SlowBroker()
    function = Function("ingest-web", {"BROKER_URL": broker.url, "AUTH_MODE": "none", "THREADS": "16"}, ready=False)
    clients = [Client(function) for _ in range(12)]
    began = time.monotonic()
    for number, client in enumerate(clients):
        client.socket.sendall(post(f"user{number}"))
    assert [client.answer()[0] for client in clients] == [202] * 12
    assert time.monotonic() - began < 2  # one round takes 0.5 s
    function.close()
    broker.close()


class TestDraining:
    def test_what_is_worked_on_is_finished_though_its_client_has_gone(self) -> None:
        """Regression: a thread at work for a connection that was closed counted as nothing."""
        broker = SlowBroker(2.5)
        function = Function("ingest-web", {"BROKER_URL": broker.url, "AUTH_MODE": "none"}, ready=False)
        client = Client(function)
        client.socket.sendall(post("ann"))
        assert broker.came.wait(10)
        client.socket.close()
        assert function.stop() == 0
        assert broker.taken.is_set()
        assert function.log()[-2]["message"] == "handled"
        broker.close()

    def test_a_client_that_goes_on_is_told_to_go_elsewhere(self) -> None:
        broker = SlowBroker(1)
        function = Function("ingest-web", {"BROKER_URL": broker.url, "AUTH_MODE": "none"}, ready=False)
        client = Client(function)
        client.socket.sendall(post("ann"))
        assert broker.came.wait(10)
        function.process.terminate()
        status, headers, _ = client.answer()
        assert (status, headers["connection"]) == (202, "close")
        assert client.socket.recv(1) == b""
        assert function.stop() == 0
        broker.close()


def test_a_client_that_takes_no_answers_holds_no_thread() -> None:
    """Regression: what it asked was answered into a buffer, until a thread waited for it to be read."""
    settings = {"BROKER_URL": "http://127.0.0.1:9/", "AUTH_MODE": "none", "THREADS": "1"}
    function = Function("ingest-web", settings, ready=False)
    greedy = Client(function)
    greedy.socket.settimeout(1)
    with suppress(TimeoutError):
        for _ in range(20):
            greedy.socket.sendall(b"GET /web/marked.js HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
    other = Client(function)
    until = time.monotonic() + 4  # 2,000 answers of 50 kB would be buffered well before
    while time.monotonic() < until:
        other.socket.sendall(b"GET /health/liveness HTTP/1.1\r\nHost: x\r\n\r\n")
        assert other.answer()[0] == 200
        time.sleep(0.05)
    greedy.socket.close()
    function.close()


def test_chunks_are_for_http_1_1_alone(functions: dict[str, Function]) -> None:
    """HTTP/1.0 has no Transfer-Encoding: two servers could see two requests in it."""
    client = Client(functions["ingest-web"])
    request = post("ann").replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: x", b"Host: x\r\nTransfer-Encoding: chunked")
    client.socket.sendall(request)
    assert client.answer()[0] == 400
