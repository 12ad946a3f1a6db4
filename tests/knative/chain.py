"""Every function, unchanged, in its own process behind Knative's broker, with Broker and Triggers of a rendered chart."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.deploy.table import load
from tests.knative.broker import NAMESPACE, KnativeBroker
from tests.parts.functions import Function
from tests.parts.net import Answer, call, free_port
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, GATEWAY_SECRET, credentials, settings_of_ingest

BROKER = "self-service-agent"  # its name in the chart's values


@dataclass
class Chain:
    """What runs."""

    functions: dict[str, Function]
    broker: KnativeBroker
    slack: Recorder

    def send(self, integration: str, **changes: Any) -> Answer:
        body = {**BODIES[integration], **changes}
        raw = json.dumps(body).encode()
        headers = {"content-type": "application/json", **credentials(integration, raw, body["user_id"])}
        return call("POST", self.functions[f"ingest-{integration}"].url + "/", body=raw, headers=headers)

    def result(self, request_id: str, integration: str = "web") -> dict[str, Any]:
        headers = {"x-gateway-secret": GATEWAY_SECRET, "x-user-id": BODIES[integration]["user_id"]}
        if integration == "tool":
            headers = credentials("tool", b"", "")
        url = f"{self.functions['request-status'].url}/api/v1/requests/{request_id}?wait=45"
        deadline = time.monotonic() + 60
        while (answer := call("GET", url, headers=headers)).status == 404 or answer.json().get("status") in (
            "queued",
            "processing",
        ):
            assert time.monotonic() < deadline, answer.body
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json()
        return found


@contextmanager
def started(
    rendered: Path, postgres: Postgres, llama_stack: str, slack: Recorder, *, identities: bool = False
) -> Iterator[Chain]:
    """The chain, ready. With `identities` as where Eventing's authentication-oidc is on: who publishes has the SinkBinding's
    token, and the event functions have the chart's EVENTS_OIDC_*, with the issuer that signs here.
    """
    slack.status = 200
    slack.answer_headers = {"content-type": "application/json"}
    slack.answer_body = b'{"ok": true, "ts": "1700000000.000100", "channel": "C1"}'
    port = free_port()
    environment = {
        **postgres.environment(),
        **settings_of_ingest(f"http://127.0.0.1:{port}/{NAMESPACE}/{BROKER}"),
        "LLAMA_STACK_URL": llama_stack,
        "SLACK_BOT_TOKEN": "xoxb-test",
        "SLACK_API_URL": slack.url + "slack/",
        "LEASE_SECONDS": "3",
    }
    token, issuer = rendered.with_suffix(".token"), free_port() if identities else None
    if identities:
        token.write_text("not-yet")  # its issuer starts after the functions, and a function reads it for each event
        environment |= {**identity_settings(rendered), "BROKER_TOKEN_FILE": str(token)}
        environment |= {
            "EVENTS_OIDC_ISSUER": f"http://127.0.0.1:{issuer}",
            "EVENTS_OIDC_JWKS_URL": f"http://127.0.0.1:{issuer}/openid/v1/jwks",
        }
    names = [function.name for function in load()]
    with ThreadPoolExecutor(4) as pool:  # readiness asks the broker, which needs their addresses first
        functions = dict(zip(names, pool.map(lambda name: Function(name, environment, ready=False), names), strict=True))
    try:
        with KnativeBroker(rendered, BROKER, {name: one.url for name, one in functions.items()}, port, issuer) as broker:
            token.write_text(broker.tokens.get("publisher", ""))
            for function in functions.values():
                function.wait_until("/health/readiness")
            yield Chain(functions, broker, slack)
    finally:
        for function in functions.values():
            function.close()


def identity_settings(rendered: Path) -> dict[str, str]:
    """EVENTS_OIDC_* of the ConfigMap that the chart makes."""
    for document in yaml.safe_load_all(rendered.read_text()):
        if document and document["kind"] == "ConfigMap" and document["metadata"]["name"] == "self-service-agent-settings":
            return {name: value for name, value in document["data"].items() if name.startswith("EVENTS_")}
    raise AssertionError("the chart has no settings")
