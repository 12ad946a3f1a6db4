"""However a receiver behaves: the name that was checked is the one spoken to, and a send comes to an end."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import Unavailable
from tests.parts.functions import ROOT
from tests.parts.net import free_port
from tests.security.receivers import Certificate, Dns, Raw, request_on

sys.path.insert(0, str(ROOT / "functions" / "response-dispatch"))  # as the host does
from safe_http import SafeHttp  # isort: skip

NAME = "hooks.example.test"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    return Dns(monkeypatch)


@pytest.fixture
def raw() -> Iterator[Callable[[Callable[[socket.socket], None]], Raw]]:
    running: list[Raw] = []

    def start(answer: Callable[[socket.socket], None]) -> Raw:
        running.append(Raw(answer))
        return running[-1]

    yield start
    for server in running:
        server.close()


class TestRebinding:
    """A name that leads elsewhere the second time it is asked for (DNS rebinding)."""

    def test_the_name_is_looked_up_once_and_tls_still_proves_it(
        self, dns: Dns, raw: Callable[..., Raw], tmp_path: Path
    ) -> None:
        certificate = Certificate(NAME, tmp_path)
        seen: list[bytes] = []
        names: list[str | None] = []
        certificate.server.sni_callback = lambda _socket, name, _context: names.append(name)

        def answer(connection: socket.socket) -> None:
            with certificate.server.wrap_socket(connection, server_side=True) as secured:
                seen.append(request_on(secured))
                secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        server = raw(answer)
        dns.answers[NAME] = ["127.0.0.1"]
        http = SafeHttp([f"https://{NAME}:{server.port}/"], tls=certificate.client)
        assert http.post(f"https://{NAME}:{server.port}/hook", b"{}", {}).status == 204
        assert dns.asked == [NAME]
        assert names == [NAME]
        assert f"Host: {NAME}:{server.port}\r\n".encode() in seen[0]

    def test_another_machine_at_that_address_cannot_answer_for_the_name(
        self, dns: Dns, raw: Callable[..., Raw], tmp_path: Path
    ) -> None:
        certificate = Certificate("another.example.test", tmp_path)
        seen: list[bytes] = []

        def answer(connection: socket.socket) -> None:
            with certificate.server.wrap_socket(connection, server_side=True) as secured:
                seen.append(secured.recv(65536))

        server = raw(answer)
        dns.answers[NAME] = ["127.0.0.1"]
        http = SafeHttp([f"https://{NAME}:{server.port}/"], tls=certificate.client)
        with pytest.raises(Unavailable):
            http.post(f"https://{NAME}:{server.port}/hook", b"{}", {})
        assert b"".join(seen) == b""


class TestHostileReceiver:
    """However a receiver behaves, a send is over within its time and its answer takes no more than its room."""

    @staticmethod
    def trickle(first: bytes, more: bytes) -> Callable[[socket.socket], None]:
        def answer(connection: socket.socket) -> None:
            request_on(connection)
            connection.sendall(first)
            for _ in range(400):
                connection.sendall(more)
                time.sleep(0.05)

        return answer

    @pytest.mark.parametrize(
        ("first", "more"),
        [
            (OK + b"X: ", b"a"),
            (b"H", b""),
            (OK + b"Content-Length: 9\r\n\r\n", b""),
            (OK + b"Content-Length: 999\r\n\r\n", b"a"),
        ],
    )
    def test_an_answer_that_trickles_is_cut_off(self, raw: Callable[..., Raw], first: bytes, more: bytes) -> None:
        server = raw(self.trickle(first, more))
        started = time.monotonic()
        with pytest.raises(Unavailable):
            SafeHttp([server.url], seconds=0.4).post(server.url, b"{}", {})
        assert time.monotonic() - started < 5

    def test_a_tls_handshake_that_never_ends_is_cut_off(self, raw: Callable[..., Raw]) -> None:
        server = raw(self.trickle(b"", b"\x16"))
        url = server.url.replace("http", "https")
        started = time.monotonic()
        with pytest.raises(Unavailable):
            SafeHttp([url], seconds=0.4).post(url, b"{}", {})
        assert time.monotonic() - started < 5

    def test_an_endless_body_is_not_read_to_its_end(self, raw: Callable[..., Raw]) -> None:
        sent = 0

        def answer(connection: socket.socket) -> None:
            nonlocal sent
            request_on(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
            for _ in range(10_000):
                sent += connection.send(b"x" * 65536)

        server = raw(answer)
        assert SafeHttp([server.url]).post(server.url, b"{}", {}).status == 200
        assert sent < 100 * 1024 * 1024

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"\x00" * 100,
            b"HTTP/1.1 999999 x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000,
            b"HTTP/1.1 200 " + b"x" * 99999,
        ],
    )
    def test_what_is_no_http_is_no_answer(self, raw: Callable[..., Raw], answer: bytes) -> None:
        def send(connection: socket.socket) -> None:
            request_on(connection)
            connection.sendall(answer)

        server = raw(send)
        with pytest.raises(Unavailable):
            SafeHttp([server.url], seconds=2).post(server.url, b"{}", {})

    def test_nothing_listens(self) -> None:
        url = f"http://127.0.0.1:{free_port()}/"
        with pytest.raises(Unavailable):
            SafeHttp([url]).post(url, b"{}", {})
