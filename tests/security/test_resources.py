"""Who holds connections open, sends for ever or sends too much costs others nothing."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.parts.functions import ROOT, Function
from tests.parts.net import call, free_port, problem
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, credentials, settings_of_ingest

HALF_OPEN = {
    "nothing": b"",
    "half a request line": b"POST / HT",
    "half a header": b"POST / HTTP/1.1\r\nHost: x\r\nX-Long",
    "no end of the headers": b"POST / HTTP/1.1\r\nHost: x\r\n",
    "no body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
    "half a body": b'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"us',
    "half a chunk": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\nabc",
}
LIMIT = 256 * 1024


@pytest.fixture(scope="module")
def web(recorder: Recorder) -> Iterator[Function]:
    # As many threads as a slow-loris attack would have to take.
    function = Function("ingest-web", {**settings_of_ingest(recorder.url), "THREADS": "4"})
    yield function
    function.close()


def ask(web: Function) -> float:
    """Seconds that a good request takes."""
    raw = json.dumps(BODIES["web"]).encode()
    started = time.monotonic()
    headers = {"content-type": "application/json", **credentials("web", raw, "webuser123")}
    assert call("POST", web.url, body=raw, headers=headers).status == 202
    return time.monotonic() - started


def connect(web: Function) -> socket.socket:
    return socket.create_connection(("127.0.0.1", web.port), timeout=10)


def raw_answer(web: Function, sent: bytes) -> bytes:
    answer = b""
    with connect(web) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may be refused while it is sent
            connection.sendall(sent)
        with suppress(ConnectionResetError):
            while more := connection.recv(65536):
                answer += more
    return answer


@pytest.mark.parametrize("kind", HALF_OPEN)
def test_200_half_open_requests_do_not_delay_a_whole_one(web: Function, kind: str) -> None:
    with ExitStack() as held:
        for _ in range(200):
            held.enter_context(connect(web)).sendall(HALF_OPEN[kind])
        assert min(ask(web) for _ in range(3)) < 1
        assert web.get("/health/readiness").status == 200
    ask(web)


def test_readers_that_never_read_their_answer_do_not_delay_others(web: Function) -> None:
    with ExitStack() as held:
        for _ in range(50):
            connection = held.enter_context(connect(web))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        assert min(ask(web) for _ in range(3)) < 1


SERVER = """
import sys
from common.server import Server
def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
server = Server(app, host="127.0.0.1", port=int(sys.argv[1]), threads=2, body_limit=1024, drain_seconds=1)
server._server.adj.channel_timeout, server._server.adj.cleanup_interval = 1, 0
server.run(lambda: print("listening", flush=True), lambda: None)
"""


def test_a_request_that_trickles_in_is_closed_however_regularly_its_bytes_come() -> None:
    """The server's time for a request (75 s) made short: activity alone does not prolong it."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with socket.create_connection(("127.0.0.1", port), timeout=5) as slow:
            slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            deadline = time.monotonic() + 15
            with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012 - until it is closed
                while time.monotonic() < deadline:
                    slow.sendall(b"a")
                    time.sleep(0.1)
        # One that is whole, and waits between its requests, is served as before.
        with socket.create_connection(("127.0.0.1", port), timeout=5) as good:
            for _ in range(3):
                good.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = b""
                while not answer.endswith(b"ok"):
                    more = good.recv(4096)
                    assert more, "an idle connection was closed"
                    answer += more
                time.sleep(0.4)
    finally:
        process.terminate()
        assert process.wait(10) == 0
        if process.stdout is not None:
            process.stdout.close()


class TestTooMuch:
    @pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 1024 * 1024])
    def test_a_chunked_body_over_the_limit_is_413(self, web: Function, recorder: Recorder, size: int) -> None:
        recorder.clear()
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        chunks = chunk * (size // 65536 + 1) + b"0\r\n\r\n"
        head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        answer = raw_answer(web, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"application/problem+json" in answer
        assert recorder.events == []

    def test_a_chunked_body_without_end_is_cut_off(self, web: Function, recorder: Recorder) -> None:
        recorder.clear()
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        with connect(web) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012 - until it is closed
                for _ in range(1000):  # 64 MiB
                    connection.sendall(chunk)
        ask(web)
        assert len(recorder.events) == 1

    @pytest.mark.parametrize(
        "head",
        [
            b"X-Long: " + b"x" * 300_000,
            b"".join(b"X-%d: y\r\n" % number for number in range(30_000)),
            b"Content-Length: -1",
            b"Content-Length: 5\r\nContent-Length: 6",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            b"Transfer-Encoding: chunked, gzip",
            b"Transfer-Encoding: \x0bchunked",
        ],
        ids=["long", "many", "negative", "twice", "smuggled", "unknown coding", "odd coding"],
    )
    def test_headers_that_cannot_be_right(self, web: Function, recorder: Recorder, head: bytes) -> None:
        recorder.clear()
        answer = raw_answer(web, b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + head + b"\r\n\r\n")
        status = answer.split(b" ", 2)[1]
        assert status in (b"400", b"401", b"413", b"431", b"501"), answer[:200]
        assert b"application/problem+json" in answer
        assert recorder.events == []

    def test_a_compressed_body_is_not_unpacked(self, web: Function, recorder: Recorder) -> None:
        recorder.clear()
        packed = gzip.compress(json.dumps({**BODIES["web"], "padding": "x" * 50_000_000}).encode())
        assert len(packed) < LIMIT
        headers = {"content-type": "application/json", "content-encoding": "gzip", **credentials("web", b"", "webuser123")}
        problem(call("POST", web.url, body=packed, headers=headers), 400)
        assert recorder.events == []

    def test_json_that_nests_for_ever_is_refused(self, web: Function, recorder: Recorder) -> None:
        recorder.clear()
        for raw in (b'{"a":' * 40_000 + b"1" + b"}" * 40_000, b"[" * 200_000, b'{"a":' * 33 + b"1" + b"}" * 33):
            headers = {"content-type": "application/json", **credentials("web", b"", "webuser123")}
            answer = call("POST", web.url, body=raw, headers=headers)
            assert answer.status in (400, 422), answer
        assert recorder.events == []
