"""Events as a broker would deliver them."""

from __future__ import annotations

import json
from typing import Any

from tests.parts.functions import Event
from tests.parts.samples import request_data

PREFIX = "com.self-service-agent."


def event(event_type: str, event_id: str, data: Any, **attributes: str) -> Event:
    """A CloudEvent in binary mode with JSON data."""
    headers = {
        "ce-specversion": "1.0",
        "ce-type": event_type,
        "ce-id": event_id,
        "ce-source": "/self-service-agent/test",
        "content-type": "application/json",
        **{f"ce-{name}": value for name, value in attributes.items()},
    }
    return Event(headers, json.dumps(data).encode())


def request_created(**changes: Any) -> Event:
    """A request.created event; `changes` are of its data."""
    data = request_data(**changes)
    return event(
        PREFIX + "request.created",
        data["request_id"],
        data,
        subject=data["request_id"],
        requestid=data["request_id"],
        partitionkey=data["conversation_key"],
        integration=data["integration_type"],
        traceparent=data["traceparent"],
    )
