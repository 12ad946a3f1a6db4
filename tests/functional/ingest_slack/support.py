"""What Slack and the broker got of ingest-slack."""

from __future__ import annotations

from typing import Any

from tests.parts.net import Answer
from tests.parts.recorder import Recorder

OTHER = "U0BEN"
PARENT = "1699999999.000001"
CHALLENGE = {"token": "a-verification-token", "challenge": "3eZbrw1aB10FEMAGAZd4FyFQ", "type": "url_verification"}
LAPTOP = "I want to refresh my laptop"


def heard(answer: Answer) -> None:
    """Slack is content: 200, and nothing that it would show."""
    assert (answer.status, answer.body) == (200, b"")


def asked(recorder: Recorder) -> dict[str, Any]:
    """The data of the one request that was published."""
    [event] = recorder.events
    assert event.attribute("type") == "com.self-service-agent.request.created"
    data: dict[str, Any] = event.data()
    assert event.attribute("requestid") == data["request_id"]
    assert event.attribute("integration") == "slack"
    return data
