"""Who sends to an ingest function."""

from __future__ import annotations

import json
from typing import Any

from tests.parts.functions import Function
from tests.parts.net import Answer, call, problem
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, credentials

INTEGRATIONS = tuple(BODIES)


class Caller:
    """Sends to one ingest function and looks at what it published."""

    def __init__(self, integration: str, function: Function, recorder: Recorder) -> None:
        self.integration = integration
        self.function = function
        self.recorder = recorder
        recorder.clear()

    def send(self, body: Any, *, path: str = "/", headers: dict[str, str] | None = None, **more: str) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        user_id = body.get("user_id", "nobody") if isinstance(body, dict) else "nobody"
        proof = credentials(self.integration, raw, user_id if isinstance(user_id, str) else "nobody")
        given = {"content-type": "application/json", **proof, **(headers or {}), **more}
        return call("POST", self.function.url + path, body=raw, headers=given)

    def refused(self, answer: Answer, status: int) -> dict[str, Any]:
        """The problem of a refusal, after which nothing was published."""
        document = problem(answer, status)
        assert self.recorder.events == []
        return document


def of(integration: str, functions: dict[str, Function], recorder: Recorder) -> Caller:
    return Caller(integration, functions[integration], recorder)
