"""The command of operators, what it publishes, and the functions that a replayed event reaches."""

from __future__ import annotations

import base64
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from infra.operate.__main__ import main
from tests.functional.test_dead_letter import dead
from tests.parts.events import PREFIX, request_created
from tests.parts.functions import Event, Function
from tests.parts.llama import DemoModel
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes ok!").decode()  # pragma: allowlist secret
POISON = "refused again: its data are not those of its type"
WOKEN = {
    PREFIX + "request.created": "session-upsert",
    PREFIX + "session.created": "agent-invoke",
    PREFIX + "session.updated": "agent-invoke",
    PREFIX + "agent.response-ready": "response-dispatch",
}


class Operating:
    """The command, what it publishes, and the functions behind the broker."""

    def __init__(
        self, functions: dict[str, Function], postgres: Postgres, broker: Recorder, hook: Recorder, model: DemoModel
    ) -> None:
        self.functions = functions
        self.postgres = postgres
        self.broker = broker
        self.hook = hook
        self.model = model

    def settings(self, **settings: str) -> dict[str, str]:
        """The environment of the command."""
        return {**self.postgres.environment(), "BROKER_URL": self.broker.url, **settings}

    def run(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        """The command in this process: exit code, output, errors."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in self.settings(**settings).items():
                patch.setenv(name, value)
            code = main(arguments)
        return code, out.getvalue(), err.getvalue()

    def ok(self, *arguments: str) -> str:
        """Its output, when it succeeded."""
        code, out, err = self.run(*arguments)
        assert (code, err) == (0, "")
        return out

    def json(self, *arguments: str) -> Any:
        """Its output for programs."""
        return json.loads(self.ok(*arguments, "--json"))

    def refused(self, *arguments: str, **settings: str) -> str:
        """Its one line of error."""
        code, out, err = self.run(*arguments, **settings)
        assert (code, out) == (1, "")
        [line] = err.splitlines()
        assert line.startswith("operate: ")
        return line

    def bury(self, given: Event, code: str = "422") -> int:
        """An event becomes a dead letter; its number. What dead-letter publishes about it is forgotten."""
        assert self.functions["dead-letter"].post_event(dead(given, code)).status == 204
        self.broker.clear()
        return int(self.postgres.query("SELECT max(dead_letter_id) FROM dead_letters")[0][0])

    def deliver(self, given: Event) -> list[Event]:
        """Bring an event to whom it wakes, and the replies on, as the broker does; every event in order."""
        seen = []
        queue = [given]
        while queue:
            one = queue.pop(0)
            seen.append(one)
            answer = self.functions[WOKEN[one.attribute("type")]].post_event(one)
            assert answer.status in (200, 204), answer.body
            if answer.status == 200:
                queue.append(Event.of(answer))
        return seen

    def tables(self) -> list[tuple[Any, ...]]:
        """All that a request left, but for when dead letters were replayed."""
        return [
            *self.postgres.query("SELECT to_jsonb(r) FROM request_logs r ORDER BY request_id"),
            *self.postgres.query("SELECT to_jsonb(s) FROM request_sessions s ORDER BY session_id"),
        ]


def of_tool(request_id: str) -> Event:
    return request_created(request_id=request_id, integration_type="tool", integration_key="snow", content="A printer?")
