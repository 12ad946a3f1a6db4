"""A request at a glance: what was asked, how far it has come, and what went wrong on the way, from its events alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from infra.local.broker.cloudevent import CloudEvent
from infra.local.broker.log import iso
from infra.local.broker.store import DEAD_LETTERED, Delivery, StoredEvent

_CREATED, _ANSWERED = ".request.created", ".agent.response-ready"
_LENGTH = 200  # characters of what was asked


def glance(request_id: str, events: Sequence[tuple[StoredEvent, list[Delivery]]]) -> dict[str, Any]:
    """Sum up the events of a request, which are there with their data, oldest first.

    `status` is that of its answer; without one `open`, or `stopped` when no event of it is on its way. `at` are the
    functions that have it now. `tries` are the tries after each first one, `dead_letters` the deliveries that were given up.
    """
    first = events[0][0]
    asked = next((stored.event for stored, _ in events if _type(stored).endswith(_CREATED)), None)
    answered = next((stored for stored, _ in reversed(events) if _type(stored).endswith(_ANSWERED)), None)
    question = _data(asked) if asked is not None else {}
    answer = _data(answered.event) if answered is not None else {}
    deliveries = [each for _, found in events for each in found]
    under_way = [each for each in deliveries if each.finished_at is None]
    return {
        "request_id": request_id,
        "integration": first.event.get("integration"),
        "user_id": question.get("user_id") or answer.get("user_id"),
        "content": str(question.get("content") or "")[:_LENGTH],
        "received_at": iso(first.received_at),
        "answered_at": None if answered is None else iso(answered.received_at),
        "duration_ms": None if answered is None else round((answered.received_at - first.received_at) * 1000),
        "status": answer.get("status") or ("open" if under_way else "stopped"),
        "agent_id": answer.get("agent_id"),
        "error": (answer.get("error") or {}).get("code"),
        "at": sorted({each.function for each in under_way}),
        "tries": sum(max(0, each.attempts - 1) for each in deliveries),
        "dead_letters": sum(each.state == DEAD_LETTERED for each in deliveries),
    }


def _type(stored: StoredEvent) -> str:
    return stored.event.get("type") or ""


def _data(event: CloudEvent) -> dict[str, Any]:
    try:
        document = json.loads(event.data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
