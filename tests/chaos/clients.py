"""People and tools who ask, through all four integrations, and who ask again with the same key while nobody answers."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from urllib3.exceptions import HTTPError

from tests.chaos.knobs import Knobs
from tests.chaos.records import FINISHED, Accepted, Result
from tests.parts.net import Answer, call
from tests.parts.samples import BODIES, slack_headers

SLACK_CHANNEL = BODIES["slack"]["channel_id"]
INTEGRATIONS = ("slack", "web", "cli", "tool")
_SLACK_SECRET = "local-slack-secret"  # pragma: allowlist secret
_TOOL_KEY = "local-tool-key"  # pragma: allowlist secret
_PATIENCE = 25.0  # seconds in which a client asks again before it gives up, not accepted
_READ_EARLY = 0.2  # the share whose answer its client waits for
_ASKED_AGAIN = 0.05  # the share of accepted requests that is sent once more, as by an impatient person


@dataclass
class Asked:
    """What came of it."""

    accepted: list[Accepted] = field(default_factory=list)
    ids_of_key: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    read_early: list[tuple[str, Result]] = field(default_factory=list)
    not_accepted: int = 0
    posts: int = 0


class Clients:
    """`knobs.clients` threads that send up to `knobs.requests` requests over `knobs.sessions` conversations."""

    def __init__(self, url: str, knobs: Knobs) -> None:
        self.asked = Asked()
        self._url = url
        self._knobs = knobs
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._next = 0
        self._began = 0.0
        self._threads = [threading.Thread(target=self._run) for _ in range(knobs.clients)]

    def start(self) -> None:
        """Begin to ask."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    @property
    def is_done(self) -> bool:
        """Whether everything was asked."""
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Ask nothing new; returns when what was begun is over."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                number, self._next = self._next, self._next + 1
            due = self._began + number / self._knobs.rate
            if number >= self._knobs.requests or self._over.wait(max(0.0, due - time.monotonic())):
                return
            self._ask(number)

    def _ask(self, number: int) -> None:
        dice = random.Random(f"{self._knobs.seed} {number}")
        # A few conversations are busy and most are not, as people are.
        session = int(self._knobs.sessions * dice.random() ** 1.5)
        integration = INTEGRATIONS[session % len(INTEGRATIONS)]
        mark, key = f"[r{self._knobs.seed}-{number}]", f"chaos-{self._knobs.seed}-{number}"
        is_native = integration == "slack" and is_native_thread(session)
        topic = dice.choice(("my laptop is slow", "a printer is out of paper", "I cannot log in", "the beamer flickers"))
        if is_native:
            body = _mention(session, number, f"{mark} {topic}")
        else:
            body = {**BODIES[integration], **_conversation(integration, session), "content": f"{mark} {topic}"}
        accepted = self._until_accepted(integration, body, key)
        if accepted is None:
            with self._lock:
                self.asked.not_accepted += 1
            return
        with self._lock:
            self.asked.accepted.append(Accepted(accepted, integration, f"{integration} {session}", mark))
        if dice.random() < _ASKED_AGAIN:
            self._until_accepted(integration, body, key)
        if accepted and dice.random() < _READ_EARLY:
            self._read(accepted)

    def _read(self, request_id: str) -> None:
        try:
            result = read_result(self._url, request_id, wait=3)
        except HTTPError:
            return
        if result.status in FINISHED:
            with self._lock:
                self.asked.read_early.append((request_id, result))

    def _until_accepted(self, integration: str, body: dict[str, Any], key: str) -> str | None:
        deadline, pause = time.monotonic() + _PATIENCE, 0.1
        while True:
            answer = self._post(integration, body, key)
            if answer is not None and answer.status == 200:
                return ""  # Slack is told no id
            if answer is not None and answer.status == 202:
                request_id = str(answer.json()["request_id"])
                with self._lock:
                    self.asked.ids_of_key[key].add(request_id)
                return request_id
            assert answer is None or answer.status in (429, 500, 502, 503, 504), (answer.status, answer.body)
            if time.monotonic() > deadline or self._over.wait(pause):
                return None
            pause = min(1.0, pause * 2)

    def _post(self, integration: str, body: dict[str, Any], key: str) -> Answer | None:
        raw = json.dumps(body).encode()
        headers = {"content-type": "application/json", "idempotency-key": key}
        if integration == "slack":
            headers |= slack_headers(raw, secret=_SLACK_SECRET)
        elif integration == "tool":
            headers["x-api-key"] = _TOOL_KEY
        with self._lock:
            self.asked.posts += 1
        try:
            return call("POST", f"{self._url}/api/v1/requests/{integration}", body=raw, headers=headers)
        except HTTPError:
            return None


def is_native_thread(session: int) -> bool:
    """Whether this Slack conversation is one of mentions as Slack sends them, not of the document's own bodies."""
    return session % 8 == 4


def thread_of(session: int) -> str:
    """The timestamp that names the conversation's thread."""
    return f"1700000000.{session:06d}"


def _mention(session: int, number: int, text: str) -> dict[str, Any]:
    """An event as Slack sends it (docs.slack.dev, app_mention); known again by team, channel and timestamp."""
    event = {"type": "app_mention", "user": f"U{session:09d}", "channel": SLACK_CHANNEL, "text": f"<@U0AGENT> {text}",
             "ts": f"1800000000.{number:06d}", "thread_ts": thread_of(session)}  # fmt: skip
    authorization = {"team_id": "T123456789", "user_id": "U0AGENT", "is_bot": True}
    return {"type": "event_callback", "team_id": "T123456789", "event_id": f"Ev{uuid.uuid4().hex[:10]}",
            "event_time": int(time.time()), "authorizations": [authorization], "event": event}  # fmt: skip


def read_result(url: str, request_id: str, wait: int = 0) -> Result:
    """The request as its owner reads it, after waiting for its end so many seconds at most."""
    answer = call("GET", f"{url}/api/v1/requests/{request_id}" + (f"?wait={wait}" if wait else ""))
    if answer.status != 200:
        return Result(answer.status)
    body = answer.json()
    content, message = (body["response"] or {}).get("content"), (body["error"] or {}).get("message")
    return Result(200, body["status"], content if body["status"] in FINISHED else None, message)


def _conversation(integration: str, session: int) -> dict[str, Any]:
    """The fields that make it a conversation of its own."""
    user = f"chaos-user-{session}"
    return {
        "slack": {"user_id": user, "slack_user_id": f"U{session:09d}", "thread_id": thread_of(session)},
        "web": {"user_id": user, "session_token": f"token-{session}"},
        "cli": {"user_id": user, "cli_session_id": f"terminal-{session}"},
        "tool": {"user_id": user, "tool_instance_id": f"instance-{session}"},
    }[integration]
