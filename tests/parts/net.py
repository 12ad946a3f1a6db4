"""Ports and HTTP for the tests."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

import urllib3

_http = urllib3.PoolManager(maxsize=64, retries=False, timeout=urllib3.Timeout(connect=5, total=75))


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on."""
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        return int(candidate.getsockname()[1])


def call(
    method: str,
    url: str,
    *,
    json_body: Any = None,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send one request. `json_body` is sent as application/json; redirects are not followed."""
    given = dict(headers or {})
    if json_body is not None:
        body = json.dumps(json_body).encode()
        given.setdefault("content-type", "application/json")
    response = _http.request(method, url, body=body, headers=given, redirect=False)
    return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, response.data)


def problem(answer: Answer, status: int) -> dict[str, Any]:
    """The answer's problem (RFC 9457), checked to be one with this status."""
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["type"].startswith("urn:")
    assert document["title"]
    assert document["detail"]
    return document
