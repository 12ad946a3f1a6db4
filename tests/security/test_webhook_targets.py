"""Where a configured webhook may lead: out into the internet by https, or where the operator said, and nowhere else."""

from __future__ import annotations

import datetime
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from common.errors import SettingError, Unavailable
from tests.parts.functions import ROOT
from tests.parts.net import free_port
from tests.parts.recorder import Recorder

sys.path.insert(0, str(ROOT / "functions" / "response-dispatch"))  # as the host does
from channel import Refused  # isort: skip
from safe_http import SafeHttp, is_public  # isort: skip

NAME = "hooks.example.test"
OK = b"HTTP/1.1 200 OK\r\n"


class Dns:
    """Stands in for the name server, and says how often a name was asked for. Addresses are looked up as always."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, list[str]] = {}
        self.asked: list[str] = []
        real = socket.getaddrinfo

        def getaddrinfo(host: Any, port: Any, *args: Any, **more: Any) -> Any:
            if host not in self.answers:
                return real(host, port, *args, **more)
            self.asked.append(host)
            return [row for address in self.answers[host] for row in real(address, port, *args, **more)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    return Dns(monkeypatch)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",  # carrier-grade NAT (RFC 6598)
        "169.254.169.254",  # the metadata service of most clouds
        "169.254.1.1",
        "192.0.0.192",  # the metadata service of Oracle's cloud
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",  # 127.0.0.1 behind NAT64
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",  # 127.0.0.1 in 6to4
        "2001:0:7f00:1::",  # Teredo
        "2001:db8::1",
        "fe80::1",
        "fe80::1%1",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",  # the metadata service of Amazon's cloud
        "ff02::1",
    ],
)
def test_an_address_that_is_not_of_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "::ffff:8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001::1"])
def test_an_address_of_the_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/x",
        "https://127.1/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://0177.0.0.1/x",
        "https://0/x",
        "https://localhost/x",
        "https://[::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://[::ffff:7f00:1]/x",
        "https://[::]/x",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/x",
        "https://100.64.0.1/x",
        "https://192.168.0.1:8443/x",
        "http://8.8.8.8/x",
        "ftp://8.8.8.8/x",
        "file:///etc/passwd",
        "gopher://8.8.8.8/x",
        "//8.8.8.8/x",
        "no url",
        "",
        "https://",
        "https:///x",
        "https://user:pass@8.8.8.8/x",  # pragma: allowlist secret
        "https://8.8.8.8@127.0.0.1/x",
        "https://8.8.8.8\\@127.0.0.1/x",
        "https://8.8.8.8:99999/x",
        "https://8.8.8.8:0/x",
        "https://8.8.8.8/x y",
        "https://8.8.8.8/x\r\nHost: evil",
        "https://8.8.8.8/\x00",
        "https://8.8.8.8/ü",
        "https://8.8.8.8/x#fragment",
    ],
)
def test_a_url_that_leads_nowhere_allowed_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(Refused):
        SafeHttp([]).post(url, b"{}", {})


@pytest.mark.parametrize("found", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1", "8.8.8.8"], ["169.254.169.254"]])
def test_a_name_is_refused_when_one_of_its_addresses_is_not_public(dns: Dns, found: list[str]) -> None:
    dns.answers[NAME] = found
    with pytest.raises(Refused):
        SafeHttp([]).post(f"https://{NAME}/x", b"{}", {})


class TestAllowedPrefix:
    @pytest.mark.parametrize(
        "url",
        [
            "{origin}/hooks",
            "{origin}/hooks/",
            "{origin}/hooks/team/7?x=1",
            "{origin}/hooks?x=1",
            "{origin}/other/../hooks/x",
        ],
    )
    def test_below_it_is_allowed(self, recorder: Recorder, url: str) -> None:
        recorder.clear()
        origin = recorder.url.rstrip("/")
        assert SafeHttp([f"{origin}/hooks"]).post(url.format(origin=origin), b"{}", {}).status == 202
        [sent] = recorder.events
        assert sent.headers["host"] == origin.removeprefix("http://")

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1.evil.test:{port}/hooks",
            "http://127.0.0.1:{port}.evil.test/hooks",
            "http://127.0.0.1:{port}@localhost:{port}/hooks",
            "http://127.0.0.1@localhost:{port}/hooks",
            "http://localhost:{port}/hooks",
            "http://127.0.0.2:{port}/hooks",
            "http://127.0.0.1:{other}/hooks",
            "http://127.0.0.1/hooks",
            "https://127.0.0.1:{port}/hooks",
            "http://127.0.0.1:{port}/",
            "http://127.0.0.1:{port}/hooks-of-another",
            "http://127.0.0.1:{port}/hooks/../admin",
            "http://127.0.0.1:{port}/hooks/%2e%2e/admin",
            "http://127.0.0.1:{port}/hooks/x/%2E%2E%2f../admin",
            "http://127.0.0.1:{port}\\hooks",
        ],
    )
    def test_what_only_looks_like_it_is_not(self, recorder: Recorder, dns: Dns, url: str) -> None:
        recorder.clear()
        dns.answers["127.0.0.1.evil.test"] = ["127.0.0.1"]
        allowed = f"{recorder.url}hooks"
        with pytest.raises(Refused):
            SafeHttp([allowed]).post(url.format(port=recorder.port, other=recorder.port ^ 1), b"{}", {})
        assert recorder.events == []

    @pytest.mark.parametrize("prefix", ["localhost", "*", "https://", "https://u:p@host/", "ftp://host/"])
    def test_a_prefix_that_is_no_url_stops_the_function(self, prefix: str) -> None:
        with pytest.raises(SettingError, match="WEBHOOK_URLS_ALLOWED"):
            SafeHttp([prefix])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(recorder: Recorder, status: int) -> None:
    recorder.clear()
    recorder.status, recorder.answer_headers = status, {"location": f"{recorder.url}second"}
    assert SafeHttp([recorder.url]).post(f"{recorder.url}first", b"{}", {}).status == status
    assert recorder.paths == ["/first"]


class Certificate:
    """A certificate for one name, signed by itself, and the two ends' TLS settings."""

    def __init__(self, name: str, directory: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        pem = directory / "server.pem"
        pem.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
        )
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(pem)
        self.client = ssl.create_default_context(cadata=certificate.public_bytes(Encoding.PEM).decode())


def request_on(connection: socket.socket) -> bytes:
    """A whole request, as these tests send it: a connection closed with something unread on it is reset."""
    read = b""
    while not read.endswith(b"{}") and (more := connection.recv(65536)):
        read += more
    return read


class Raw:
    """A server whose every connection is handled by `answer`, which is given the socket."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._answer(connection)
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


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
