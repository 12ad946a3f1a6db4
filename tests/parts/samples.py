"""The document's four bodies, and how each integration's caller proves who it is."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from typing import Any

SLACK_SECRET = "test-signing-secret"  # pragma: allowlist secret
TOOL_KEY = "test-tool-key"  # pragma: allowlist secret
OTHER_TOOL_KEY = "other-tool-key"  # pragma: allowlist secret
GATEWAY_SECRET = "test-gateway-secret"  # pragma: allowlist secret

BODIES: dict[str, dict[str, Any]] = {
    "slack": {
        "user_id": "user123",
        "content": "I need help with my laptop",
        "channel_id": "C123456789",
        "thread_id": "1234567890.123456",
        "slack_user_id": "U123456789",
        "slack_team_id": "T123456789",
    },
    "web": {
        "user_id": "webuser123",
        "content": "I want to refresh my laptop",
        "session_token": "token123",
        "client_ip": "192.168.1.1",
        "user_agent": "Mozilla/5.0...",
    },
    "cli": {
        "user_id": "cliuser123",
        "content": "help me with laptop refresh",
        "cli_session_id": "cli-session-456",
        "command_context": {"command": "agent", "args": ["help"]},
    },
    "tool": {
        "user_id": "tooluser123",
        "content": "User laptop needs refresh - system notification",
        "tool_id": "snow-integration",
        "tool_instance_id": "instance-789",
        "trigger_event": "laptop.refresh.required",
        "tool_context": {"ticket_id": "INC123456", "priority": "high"},
    },
}


def sha256(key: str) -> str:
    """A key's hash, as TOOL_KEYS holds it."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


TOOL_KEYS = json.dumps({"snow-integration": [sha256("an-older-key"), sha256(TOOL_KEY)], "other": [sha256(OTHER_TOOL_KEY)]})


def slack_headers(body: bytes, *, secret: str = SLACK_SECRET, age: float = 0) -> dict[str, str]:
    """A request's headers, signed as Slack signs, `age` seconds ago."""
    timestamp = str(int(time.time() - age))
    digest = hmac.new(secret.encode(), f"v0:{timestamp}:".encode() + body, hashlib.sha256).hexdigest()
    return {"x-slack-request-timestamp": timestamp, "x-slack-signature": f"v0={digest}"}


def credentials(integration: str, body: bytes, user_id: str) -> dict[str, str]:
    """The headers by which a caller of this integration proves who it is (AUTH_MODE=gateway)."""
    if integration == "slack":
        return slack_headers(body)
    if integration == "tool":
        return {"x-api-key": TOOL_KEY}
    return {"x-gateway-secret": GATEWAY_SECRET, "x-user-id": user_id}


def settings_of_ingest(broker_url: str) -> dict[str, str]:
    """The settings of an ingest function under test."""
    return {
        "BROKER_URL": broker_url,
        "AUTH_MODE": "gateway",
        "GATEWAY_SECRET": GATEWAY_SECRET,
        "SLACK_SIGNING_SECRET": SLACK_SECRET,
        "TOOL_KEYS": TOOL_KEYS,
    }


def request_data(**changes: Any) -> dict[str, Any]:
    """Data of a request.created event, with a new request_id unless one is given."""
    return {
        "request_id": str(uuid.uuid4()),
        "integration_type": "web",
        "user_id": "webuser123",
        "content": "I want to refresh my laptop",
        "conversation_key": "conversation-1",
        "accepted_at": "2026-01-02T03:04:05.000001Z",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        **changes,
    }
