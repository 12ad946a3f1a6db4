"""Knative's own multi-tenant broker handlers in a process of their own (infra/knative)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import urllib3
import yaml

from tests.broker.harness import event_headers
from tests.knative.conftest import tool
from tests.parts.net import free_port

NAMESPACE = "agents"


class KnativeBroker:
    """The Broker and Triggers of `objects`, served. `url` is where a producer posts.

    With a port for an issuer Eventing's authentication-oidc is on, and `tokens` has the `publisher`'s (what a SinkBinding
    mounts), a `stranger`'s, and one by which a `trigger` sends dead letters.
    """

    def __init__(
        self, objects: Path, name: str, subscribers: Mapping[str, str], port: int | None = None, issuer: int | None = None
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/{NAMESPACE}/{name}"
        command = [tool("knative"), "broker", "-namespace", NAMESPACE, "-port", str(self.port)]
        for subscriber, url in subscribers.items():
            command += ["-subscriber", f"{subscriber}={url}"]
        command += ["-oidc", "-issuer-port", str(issuer)] if issuer else []
        self.process = subprocess.Popen([*command, str(objects)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "listening" in line, "the broker ended at its start"
        self.tokens: dict[str, str] = json.loads(line)["tokens"] or {}
        self._http = urllib3.PoolManager(maxsize=32, retries=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def request(
        self, method: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> urllib3.BaseHTTPResponse:
        return self._http.request(method, self.url, headers=headers, body=body, timeout=20.0)

    def post(self, event_type: str, event_id: str, data: bytes = b"{}", **extensions: str) -> None:
        """Post an event in binary mode, which must be accepted."""
        headers = event_headers(event_type, event_id, **extensions)
        if self.tokens:
            headers["authorization"] = f"Bearer {self.tokens['publisher']}"
        response = self.request("POST", headers, data)
        assert (response.status, response.data) == (202, b"")


def objects_of(topology: str) -> str:
    """A Broker and Triggers for a table of the tests, as the chart makes them for this project's."""
    table: dict[str, Any] = yaml.safe_load(topology)
    service = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
    documents: list[dict[str, Any]] = [
        {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "default"}, "spec": {}}
    ]
    sink = {"ref": {**service, "name": table["broker"]["dead_letter"]}}
    for name, row in table["functions"].items():
        documents += [
            {
                "apiVersion": "eventing.knative.dev/v1",
                "kind": "Trigger",
                "metadata": {"name": f"{name}-{event_type.replace('.', '-')}"},
                "spec": {
                    "broker": "default",
                    "filter": {"attributes": {"type": event_type}},
                    "subscriber": {"ref": {**service, "name": name}},
                    "delivery": {**row["delivery"], "deadLetterSink": sink},
                },
            }
            for event_type in row.get("wakes_on", ())
        ]
    return yaml.safe_dump_all(documents)
