"""`make demo`: the document's four requests and a follow-up, their answers, and each one's way through the functions.

Uses the platform that runs on PORT, or starts one and stops it again. Exit code 0 only if every request was answered.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from common import settings
from common.errors import SettingError
from infra.local.defaults import SIGNING_SECRET, TOOL_KEY

_START_SECONDS = 900  # the first start installs a Llama Stack server
_ANSWER_SECONDS = 60
_TRACE_SECONDS = 3  # for the last event to be delivered, after the answer could be read
_EVENTS = 3  # request.created, session.created or .updated, agent.response-ready
_http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=2, read=_ANSWER_SECONDS + 5))

REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "slack",
        {
            "user_id": "user123",
            "content": "I need help with my laptop",
            "channel_id": "C123456789",
            "thread_id": "1234567890.123456",
            "slack_user_id": "U123456789",
            "slack_team_id": "T123456789",
        },
    ),
    (
        "web",
        {
            "user_id": "webuser123",
            "content": "I want to refresh my laptop",
            "session_token": "token123",
            "client_ip": "192.168.1.1",
            "user_agent": "Mozilla/5.0...",
        },
    ),
    (
        "cli",
        {
            "user_id": "cliuser123",
            "content": "help me with laptop refresh",
            "cli_session_id": "cli-session-456",
            "command_context": {"command": "agent", "args": ["help"]},
        },
    ),
    (
        "tool",
        {
            "user_id": "tooluser123",
            "content": "User laptop needs refresh - system notification",
            "tool_id": "snow-integration",
            "tool_instance_id": "instance-789",
            "trigger_event": "laptop.refresh.required",
            "tool_context": {"ticket_id": "INC123456", "priority": "high"},
        },
    ),
    ("web", {"user_id": "webuser123", "content": "What did I ask first?", "session_token": "token123"}),
)


class Demo:
    """Asks at a platform's address and tells what happens."""

    def __init__(self, url: str) -> None:
        self._url = url

    def run(self) -> int:
        """Send every request after the one before it was answered; how many were not answered."""
        return sum(not self._ask(integration, body) for integration, body in REQUESTS)

    def _ask(self, integration: str, body: dict[str, Any]) -> bool:
        raw = json.dumps(body).encode()
        headers = {"content-type": "application/json", **_proof(integration, raw, str(body["user_id"]))}
        accepted = _http.request("POST", f"{self._url}/api/v1/requests/{integration}", body=raw, headers=headers)
        _say(f"\n{integration:>6} ▸ {body['content']}")
        if accepted.status != 202:
            _say(f"       ✗ {accepted.status}: {accepted.json().get('detail', '')}")
            return False
        reader = _proof("tool" if integration == "tool" else "web", b"", str(body["user_id"]))
        status_url = f"{self._url}{accepted.json()['status_url']}?wait={_ANSWER_SECONDS}"
        found = _http.request("GET", status_url, headers=reader).json()
        if found.get("status") != "completed":
            error = found.get("error") or {}
            _say(f"       ✗ {found.get('status')}: {error.get('message', found.get('detail', ''))}")
            return False
        _say(f"  {found['agent_id']} ▸ {found['response']['content']}")
        self._show_way(found)
        return True

    def _show_way(self, found: dict[str, Any]) -> None:
        """The request's hops with their times, as the broker stand-in saw them."""
        hops = [f"request {found['request_id']}, session {found['session_id']}, {found['processing_time_ms']} ms:"]
        for event in self._way(found["request_id"]):
            for delivery in event["deliveries"]:
                began = _milliseconds(found["created_at"], delivery["first_attempt_at"])
                took = _milliseconds(delivery["first_attempt_at"], delivery["finished_at"])
                kind = event["type"].split("agent.", 1)[1]
                hops.append(f"+{began:>4} ms  {kind} → {delivery['function']}  {took} ms, {delivery['status']}")
        _say("         " + "\n         ".join(hops))

    def _way(self, request_id: str) -> list[dict[str, Any]]:
        """The request's events once the last of them was delivered: an answer can be read before it was dispatched."""
        deadline = time.monotonic() + _TRACE_SECONDS
        while True:
            trace = _http.request("GET", f"{self._url}/_platform/trace/{request_id}")
            events: list[dict[str, Any]] = trace.json()["events"] if trace.status == 200 else []
            last = events[-1]["deliveries"] if events else []
            if time.monotonic() > deadline or (len(events) >= _EVENTS and all(one["finished_at"] for one in last)):
                return events
            time.sleep(0.05)


def _proof(integration: str, raw: bytes, user_id: str) -> dict[str, str]:
    """How this integration's caller proves who it is, with the platform's own local secrets where none is set."""
    if integration == "slack":
        timestamp = str(int(time.time()))
        secret = os.environ.get("SLACK_SIGNING_SECRET") or SIGNING_SECRET
        digest = hmac.new(secret.encode(), f"v0:{timestamp}:".encode() + raw, hashlib.sha256).hexdigest()
        return {"x-slack-request-timestamp": timestamp, "x-slack-signature": f"v0={digest}"}
    if integration == "tool":
        return {"x-api-key": os.environ.get("DEMO_TOOL_KEY") or TOOL_KEY}
    return {"x-user-id": user_id, "x-gateway-secret": os.environ.get("GATEWAY_SECRET", "")}


def _milliseconds(begin: str, end: str | None) -> int:
    if end is None:
        return 0
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds() * 1000)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _is_ours(url: str) -> bool:
    """Whether a platform of ours answers there. Raises HTTPError when nothing does."""
    answer = _http.request("GET", f"{url}/_platform", timeout=2)
    return answer.status == 200 and "functions" in answer.json()


@contextmanager
def platform(url: str) -> Iterator[bool]:
    """A platform that is ready at `url`: the one that runs, or one that is stopped at the end. False if it cannot be had."""
    try:
        if not _is_ours(url):
            _say(f"Something else answers at {url}: set another PORT")
            yield False
            return
        started = None
    except HTTPError:
        started = subprocess.Popen([sys.executable, "-m", "infra.local"])
    try:
        yield _wait_until_ready(url, started)
    finally:
        if started is not None and started.poll() is None:
            started.terminate()
            started.wait(60)


def _wait_until_ready(url: str, started: subprocess.Popen[bytes] | None) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            if _http.request("GET", f"{url}/health", timeout=5).status == 200:
                return True
        except HTTPError:
            if started is not None and started.poll() is not None:
                return False  # it has said why
        time.sleep(0.2)
    _say(f"The platform was not ready within {_START_SECONDS} s")
    return False


def main() -> int:
    """Run the demonstration; the exit code."""
    try:
        url = f"http://127.0.0.1:{settings.integer('PORT', 8080, least=1, most=65535)}"
    except SettingError as error:
        _say(str(error))
        return 1
    with platform(url) as ready:
        if not ready:
            return 1
        unanswered = Demo(url).run()
    _say(f"\n{len(REQUESTS) - unanswered} of {len(REQUESTS)} requests were answered.")
    return 1 if unanswered else 0


if __name__ == "__main__":
    sys.exit(main())
