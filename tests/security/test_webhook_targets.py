"""Where a configured webhook may lead: out into the internet by https, or where the operator said, and nowhere else."""

from __future__ import annotations

import sys

import pytest

from common.errors import SettingError
from tests.parts.functions import ROOT
from tests.parts.recorder import Recorder
from tests.security.receivers import Dns

sys.path.insert(0, str(ROOT / "functions" / "response-dispatch"))  # as the host does
from channel import Refused  # isort: skip
from safe_http import SafeHttp, is_public  # isort: skip

NAME = "hooks.example.test"


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
