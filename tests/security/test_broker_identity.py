"""Who publishes says so to the broker, and knows the broker: what a SinkBinding sets with OIDC and TLS switched on."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cloudevents.http import CloudEvent

from common.broker import Broker
from common.errors import SettingError, Unavailable
from tests.parts.functions import Function
from tests.parts.net import Answer, call
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, settings_of_ingest
from tests.security.receivers import Certificate, Raw, request_on

EVENT = CloudEvent({"type": "t", "source": "/test", "id": "1", "datacontenttype": "application/json"}, b"{}")


def ask(function: Function) -> Answer:
    body = json.dumps(BODIES["web"]).encode()
    headers = {"content-type": "application/json", "x-user-id": BODIES["web"]["user_id"]}
    return call("POST", function.url + "/", body=body, headers=headers)


def test_the_token_is_sent_and_read_anew_when_it_was_renewed(
    serve: Callable[..., Function], recorder: Recorder, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first.one\n")
    settings = {**settings_of_ingest(recorder.url), "AUTH_MODE": "none", "BROKER_TOKEN_FILE": str(token)}
    function = serve("ingest-web", settings)
    recorder.clear()
    assert ask(function).status == 202
    token.write_text("second.one")
    assert ask(function).status == 202
    assert [event.headers["authorization"] for event in recorder.events] == ["Bearer first.one", "Bearer second.one"]
    assert "first.one" not in function.output()


def test_a_token_that_went_away_is_503(serve: Callable[..., Function], recorder: Recorder, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a.token")
    settings = {**settings_of_ingest(recorder.url), "AUTH_MODE": "none", "BROKER_TOKEN_FILE": str(token)}
    function = serve("ingest-web", settings)
    recorder.clear()
    token.unlink()
    assert ask(function).status == 503
    assert recorder.events == []


@pytest.mark.parametrize(
    ("name", "value"), [("BROKER_TOKEN_FILE", "/no/such/token"), ("K_CA_CERTS", "no certificate"), ("K_SINK", "ftp://x")]
)
def test_what_cannot_be_used_stops_the_function(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("K_SINK", "https://broker.example.test/")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=name):
        Broker()


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Certificate:
        return Certificate("localhost", tmp_path)

    @pytest.fixture
    def published(self) -> list[bytes]:
        return []

    @pytest.fixture
    def server(self, certificate: Certificate, published: list[bytes]) -> Iterator[Raw]:
        def answer(connection: socket.socket) -> None:
            with certificate.server.wrap_socket(connection, server_side=True) as secured:
                published.append(request_on(secured))
                secured.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

        server = Raw(answer)
        yield server
        server.close()

    def test_a_broker_with_knatives_certificate_is_published_to(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Raw, published: list[bytes]
    ) -> None:
        monkeypatch.setenv("K_SINK", f"https://localhost:{server.port}/agents/default")
        monkeypatch.setenv(
            "K_CA_CERTS", "-----BEGIN CERT" + (tmp_path / "server.pem").read_text().split("-----BEGIN CERT")[1]
        )
        Broker().publish(EVENT)
        assert published[0].startswith(b"POST /agents/default HTTP/1.1\r\n")

    def test_a_broker_that_nobody_vouches_for_is_not(
        self, monkeypatch: pytest.MonkeyPatch, server: Raw, published: list[bytes]
    ) -> None:
        monkeypatch.setenv("K_SINK", f"https://localhost:{server.port}/agents/default")
        with pytest.raises(Unavailable):
            Broker().publish(EVENT)
        assert published == []
