"""The whole platform as `make run` starts it: every function, broker, PostgreSQL, Llama Stack, front door.

A conftest.py that imports the fixtures `platform` and `chain` has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.parts.llama import ROOT, VENV
from tests.parts.net import Answer, call
from tests.parts.samples import BODIES, slack_headers
from tests.platform.support import Platform

LOCAL_SLACK_SECRET = "local-slack-secret"  # pragma: allowlist secret
LOCAL_TOOL_KEY = "local-tool-key"  # pragma: allowlist secret


class Chain:
    """Asks as the four integrations do, at the front door."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        description = platform.description()
        self.model_url = description["demo_model"]["url"]
        self.database_url = description["database"]["url"]

    def send(self, integration: str, body: dict[str, Any] | None = None, **headers: str) -> Answer:
        """POST a body (the document's, changed by `body`), with the proof of who asks."""
        raw = json.dumps({**BODIES[integration], **(body or {})}).encode()
        proof: dict[str, str] = {}
        if integration == "slack":
            proof = slack_headers(raw, secret=LOCAL_SLACK_SECRET)
        elif integration == "tool":
            proof = {"x-api-key": LOCAL_TOOL_KEY}
        url = f"{self.platform.url}/api/v1/requests/{integration}"
        given = {"content-type": "application/json", **proof, **{name.replace("_", "-"): v for name, v in headers.items()}}
        return call("POST", url, body=raw, headers=given)

    def ask(self, integration: str, body: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        """Send and wait for the answer; the request as its reader sees it."""
        accepted = self.send(integration, body, **headers)
        assert accepted.status == 202, accepted.body
        return self.result(accepted.json()["request_id"])

    def result(self, request_id: str) -> dict[str, Any]:
        """The finished request."""
        found = self.platform.get(f"/api/v1/requests/{request_id}?wait=60")
        assert found.status == 200, found.body
        body: dict[str, Any] = found.json()
        assert body["status"] in ("completed", "failed"), body
        return body

    def model_calls(self) -> list[dict[str, Any]]:
        """Every call of the model since the reset."""
        return list(call("GET", f"{self.model_url}/_control/calls").json()["calls"])

    def control_model(self, **settings: int) -> None:
        """Set delay_ms, fail_next, status."""
        assert call("POST", f"{self.model_url}/_control", json_body=settings).status == 200


@contextmanager
def whole_platform(directory: Path, **settings: str) -> Iterator[Platform]:
    """The platform with every function and the local Llama Stack; it ends with the block."""
    running = Platform(directory / "state", {"LLAMA_STACK_VENV": str(VENV), **settings}, ROOT / "infra" / "topology.yaml")
    try:
        running.wait_ready()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with whole_platform(tmp_path_factory.mktemp("chain")) as running:
        yield running


@pytest.fixture
def chain(platform: Platform) -> Iterator[Chain]:
    platform.wait_healthy()
    one = Chain(platform)
    call("POST", f"{one.model_url}/_control/reset")
    yield one
    call("POST", f"{one.model_url}/_control/reset")
