"""The connection that events are published over, against a server that says exactly what a test wants it to say."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from common.connection import BadAnswer, Connection

OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Takes one connection; says `parts` after each request, the next part only when it is told to."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = urlsplit(f"http://127.0.0.1:{self._listening.getsockname()[1]}/in?x=1")
        self.requests: list[bytes] = []
        self.answers: list[tuple[bytes, ...]] = []
        self.next_part = threading.Semaphore(0)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            accepted, _ = self._listening.accept()
        except OSError:  # the test is over
            return
        with accepted:
            while self.answers and (received := self._request(accepted)):
                self.requests.append(received)
                first, *more = self.answers.pop(0)
                accepted.sendall(first)
                for part in more:
                    self.next_part.acquire(timeout=10)
                    with suppress(BrokenPipeError):  # who asked has gone
                        accepted.sendall(part)

    @staticmethod
    def _request(accepted: socket.socket) -> bytes:
        received = b""
        while not received.endswith(b"<end>"):
            data = accepted.recv(65536)
            if not data:
                return b""
            received += data
        return received

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def exchange(connection: Connection, seconds: float = 5, **headers: str) -> int:
    return connection.exchange("POST", headers, b"<end>", time.monotonic() + seconds)


def test_a_request_goes_out_whole_and_the_connection_is_used_again(server: Server) -> None:
    server.answers = [(OK,), (b"HTTP/1.1 204 No Content\r\n\r\n",), (b"HTTP/1.1 503 No\r\ncontent-length:  4 \r\n\r\nwait",)]
    connection = Connection(server.url)
    assert [exchange(connection, x_a="b") for _ in range(3)] == [202, 204, 503]
    assert connection.reusable
    head = b"POST /in?x=1 HTTP/1.1\r\nHost: " + server.url.netloc.encode() + b"\r\nContent-Length: 5\r\nx_a: b\r\n\r\n<end>"
    assert server.requests == [head] * 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 1\r\n\r\nmore than it said",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 99999999\r\n\r\n",
    ],
)
def test_after_an_answer_whose_end_is_not_plain_the_connection_is_given_up(server: Server, answer: bytes) -> None:
    server.answers = [(answer,)]
    connection = Connection(server.url)
    assert exchange(connection) == 202
    assert not connection.reusable


def test_an_interim_answer_is_not_the_answer_and_parts_are_put_together(server: Server) -> None:
    server.answers = [(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2", b"02 Accepted\r\nContent-Len", b"gth: 2\r\n\r\no", b"k")]
    server.next_part.release(3)
    connection = Connection(server.url)
    assert exchange(connection) == 202
    assert connection.reusable


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 2x2 ?\r\n\r\n", b"HTTP/1.1 202 Acc"])
def test_what_is_no_answer_is_an_error(server: Server, answer: bytes) -> None:
    server.answers = [(answer,)]  # and then it hangs up
    with pytest.raises(BadAnswer):
        exchange(Connection(server.url))


def test_silence_ends_at_the_deadline(server: Server) -> None:
    server.answers = [(b"HTTP/1.1 202", b"never")]
    connection = Connection(server.url)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        exchange(connection, 0.3)
    assert 0.25 <= time.monotonic() - began < 3
    server.next_part.release()


def test_a_body_that_does_not_come_ends_at_the_deadline_too(server: Server) -> None:
    server.answers = [(b"HTTP/1.1 202 Accepted\r\n", b"Content-Length: 9\r\n\r\n", b"never")]
    connection = Connection(server.url)
    threading.Timer(0.4, server.next_part.release).start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        exchange(connection, 0.8)
    assert time.monotonic() - began < 1.15  # and not 0.8 s after the head
    server.next_part.release()


def test_an_answer_that_trickles_in_ends_at_the_deadline_too(server: Server) -> None:
    server.answers = [(b"HTTP/1.1 202 Accepted\r\nX: ", *([b"."] * 200))]
    connection = Connection(server.url)
    trickle = threading.Event()

    def drip() -> None:
        while not trickle.wait(0.05):
            server.next_part.release()

    threading.Thread(target=drip, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        exchange(connection, 0.4)
    trickle.set()
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("value", ["a\r\nX-Forged: yes", "a\nb", "a\rb"])
def test_a_header_cannot_smuggle_in_another(server: Server, value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        exchange(Connection(server.url), x=value)
    assert server.requests == []
