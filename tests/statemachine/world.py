"""The four functions in processes of their own, and the places where a crash can be planted into them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.parts.events import PREFIX
from tests.parts.functions import Event, Function
from tests.parts.net import Answer
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes ok!").decode()  # pragma: allowlist secret
TOOL = "snow"

WOKEN_BY = {
    PREFIX + "request.created": "session-upsert",
    PREFIX + "session.created": "agent-invoke",
    PREFIX + "session.updated": "agent-invoke",
    PREFIX + "agent.response-ready": "response-dispatch",
}
# Every place between two statements of each function.
CRASHES = {
    "session-upsert": ("step.record_request.before", "step.record_request.after", "reply"),
    "agent-invoke": (
        "step.claim_turn.before", "step.claim_turn.after", "agent.answered", "step.finish_turn.before",
        "step.finish_turn.after", "reply",
    ),
    "response-dispatch": (
        "step.begin_delivery.before", "step.begin_delivery.after", "deliver.before", "deliver.after",
        "step.finish_delivery.before", "step.finish_delivery.after", "reply",
    ),
    "dead-letter": (
        "step.record_dead_letter.before", "step.record_dead_letter.after", "step.fail_request.before",
        "step.fail_request.after", "step.give_up_delivery.before", "step.give_up_delivery.after", "publish.before",
        "publish.after", "reply",
    ),
}  # fmt: skip


class World:
    """The functions, their database, the broker that dead-letter publishes to, and a tool's webhook."""

    def __init__(self, directory: Path, postgres: Postgres, llama_stack: str) -> None:
        self.postgres = postgres
        self.broker = Recorder()
        self.webhook = Recorder()
        self.webhook.status = 200
        self._directory = directory
        self._pool = ThreadPoolExecutor(3)
        settings = {
            **postgres.environment(),
            "BROKER_URL": self.broker.url,
            "LLAMA_STACK_URL": llama_stack,
            "LEASE_SECONDS": "300",  # the state machine says when a lease is over
            "SENDING_SECONDS": "600",
            "TURN_WAIT_SECONDS": "0",
            "WEBHOOK_SECRETS": json.dumps({TOOL: SECRET}),
            "WEBHOOK_URLS_ALLOWED": self.webhook.url,
        }
        self.functions = {name: Function(name, {**settings, "FAULTS_CONTROL": str(directory / name)}) for name in CRASHES}

    def empty(self) -> None:
        """Begin anew: nothing recorded, nothing sent, no crash planted."""
        self.postgres.empty()
        self.postgres.query(
            "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', %s, %s)",
            TOOL,
            json.dumps({"webhook_url": self.webhook.url, "secret_ref": TOOL}),
        )
        self.broker.clear()
        self.webhook.clear()
        self.webhook.status = 200

    @contextmanager
    def crashing(self, function: str, point: str) -> Iterator[None]:
        """Within this block the function crashes once at this point, should it come by."""
        control = self._directory / function
        new = self._directory / "new"
        new.write_text(f"{point}=raise:1:1")
        new.replace(control)
        try:
            yield
        finally:
            control.unlink()

    def deliver(self, function: str, event: Event, at_once: int = 1) -> list[Answer]:
        """Deliver an event, several times at once if asked to; the answers."""
        post = self.functions[function].post_event
        if at_once == 1:
            return [post(event)]
        return list(self._pool.map(post, [event] * at_once))

    def close(self) -> None:
        """End everything."""
        for function in self.functions.values():
            function.close()
        self._pool.shutdown()
        self.broker.close()
        self.webhook.close()
