"""People and a tool who keep asking while things change, and what became of everything they asked."""

from __future__ import annotations

import json
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from tests.functional.slack_thread.support import THINKING
from tests.parts.net import call
from tests.parts.samples import BODIES, GATEWAY_SECRET, credentials
from tests.parts.slack import BOT, CHANNEL, PERSON, Slack, mention
from tests.platform.support import until
from tests.slack.fake import FakeSlack

UNANSWERED = 2  # requests of one conversation that are on their way when it sends the next
DEADLINE = 120.0  # seconds; generous, since processes start and end beside it


class Talk(ABC):
    """Somebody in a thread of their own who says one thing after the other until `stop`. `texts` has what was said."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.texts: list[str] = []
        self.failure: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Send nothing more, and wait until everything sent is answered. Raises what went wrong."""
        self._stopping.set()
        self._thread.join(2 * DEADLINE)
        assert not self._thread.is_alive(), f"{self.name} hangs at message {len(self.texts)}"
        self.check()

    def check(self) -> None:
        """Raise what has gone wrong so far."""
        if self.failure is not None:
            raise self.failure

    @abstractmethod
    def say(self, text: str) -> None:
        """Send one message and wait as long as this person does."""

    @abstractmethod
    def finish(self) -> None:
        """Wait until every message is answered."""

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.texts.append(f"{self.name}, message {len(self.texts)}: which printers are there?")
                self.say(self.texts[-1])
            self.finish()
        except BaseException as error:  # noqa: BLE001 - raised again by check, in the test's own thread
            self.failure = error


class Conversation(Talk):
    """A person on the web or a tool, in one session, with UNANSWERED + 1 messages on their way at most.

    `sent` has the ids of what was accepted, in order.
    """

    def __init__(self, name: str, integration: str, ingest_url: str, status_url: str) -> None:
        super().__init__(name)
        self.integration = integration
        self.sent: list[str] = []
        self._ingest_url, self._status_url = ingest_url, status_url

    def finish(self) -> None:
        """Wait until every message is answered."""
        for request_id in self.sent[-UNANSWERED - 1 :]:
            self._finished(request_id)

    def say(self, text: str) -> None:
        """Send one message, and wait for the one that is UNANSWERED before it."""
        own = {"web": "session_token", "tool": "tool_instance_id"}[self.integration]
        body = {**BODIES[self.integration], own: self.name, "content": text}
        raw = json.dumps(body).encode()
        proof = credentials(self.integration, raw, body["user_id"])
        headers = {"content-type": "application/json", "idempotency-key": uuid.uuid4().hex, **proof}

        def accepted() -> str:
            answer = call("POST", self._ingest_url + "/", body=raw, headers=headers)
            assert answer.status in (202, 503), answer.body  # 503: come again, with the same key
            return str(answer.json()["request_id"]) if answer.status == 202 else ""

        self.sent.append(until(accepted, f"{text} is accepted", DEADLINE))
        # Order is promised for what was recorded before the next one is sent (docs/adr/0006).
        until(lambda: self._status(self.sent[-1]) is not None, f"{text} is recorded", DEADLINE)
        if len(self.sent) > UNANSWERED:
            self._finished(self.sent[-UNANSWERED - 1])

    def _status(self, request_id: str, wait: int = 0) -> str | None:
        url = f"{self._status_url}/api/v1/requests/{request_id}?wait={wait}"
        reader: Mapping[str, str] = {"x-gateway-secret": GATEWAY_SECRET, "x-user-id": BODIES[self.integration]["user_id"]}
        if self.integration == "tool":
            reader = credentials("tool", b"", "")
        answer = call("GET", url, headers=dict(reader))
        if answer.status in (404, 503):  # not recorded yet; 503: come again
            return None
        assert answer.status == 200, answer.body
        document: dict[str, Any] = answer.json()
        return str(document["status"])

    def _finished(self, request_id: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while (status := self._status(request_id, wait=20)) not in ("completed", "failed"):
            assert time.monotonic() < deadline, f"{request_id} is {status}"
        assert status == "completed", f"{request_id} of {self.name} is {status}"


class Mentions(Talk):
    """A person in Slack, who mentions the bot in a new thread each time and waits for its one message there."""

    def __init__(self, name: str, slack: FakeSlack, ingest_url: str) -> None:
        super().__init__(name)
        self.threads: list[str] = []
        self._slack = slack
        self._app = Slack(ingest_url + "/")

    def say(self, text: str) -> None:
        """Mention the bot, and wait for the answer."""
        message = self._slack.say(CHANNEL, PERSON, f"<@{BOT}> {text}")
        self.threads.append(message["ts"])
        envelope = mention(message["text"], ts=message["ts"], event_ts=message["ts"])
        until(lambda: self._app.send(envelope).status == 200, f"{text} is heard", DEADLINE)  # Slack sends again what was not
        self._slack.wait_for(lambda: self.answers(message["ts"]), f"{text} is answered", DEADLINE)

    def finish(self) -> None:
        """Nothing is left: each answer was waited for."""

    def answers(self, thread: str) -> list[str]:
        """The texts that the bot has in a thread, without its sign."""
        return [one["text"] for one in self._slack.ours(CHANNEL, thread) if one["text"] != THINKING]
