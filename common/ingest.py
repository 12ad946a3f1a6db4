"""What the ingest functions share after they have verified who asks: normalise, publish, answer 202."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections import deque
from datetime import UTC, datetime
from typing import Any

from flask import Request

from common import events, tracing
from common.answers import Answer
from common.broker import Broker
from common.errors import FieldError, Invalid
from common.events import IntegrationType, NormalizedRequest
from common.logs import note_ids

_KEYS = uuid.UUID("5f2f7f1e-7a51-4c52-8f0a-6d6f2b3f9a10")  # namespace of ids made from idempotency keys; never change it
_IDS_AT_ONCE = 64
_random: deque[bytes] = deque()
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def conversation(*parts: str | None) -> str:
    """A conversation's key: the same parts give the same key, and nobody can read a token out of it."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


def request_id_for(integration: str, *identity: str) -> str:
    """The id that the same identity (a caller and its key, a Slack message) always gets."""
    return str(uuid.uuid5(_KEYS, json.dumps((integration, *identity))))


def new_request_id(request: Request, integration: str, caller: str) -> str:
    """The request's id: made from the caller and its Idempotency-Key if it sent one, else random.

    Raises Invalid for a key that is empty, over 255 characters or not printable ASCII.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return _random_id()
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        error = FieldError("header.Idempotency-Key", "must be 1 to 255 printable ASCII characters")
        raise Invalid("The idempotency key cannot be used.", (error,))
    return request_id_for(integration, caller, key)


def _random_id() -> str:
    """A random UUID (version 4). The system's random source is read for many at once: reading it is a system call."""
    while True:
        try:
            return str(uuid.UUID(bytes=_random.pop(), version=4))
        except IndexError:
            block = os.urandom(16 * _IDS_AT_ONCE)
            _random.extend(block[start : start + 16] for start in range(0, len(block), 16))


def accept(
    broker: Broker,
    request: Request,
    integration: IntegrationType,
    *,
    caller: str,
    request_id: str | None = None,
    **fields: Any,
) -> Answer:
    """Publish a request as request.created and answer 202; when this returns it is on its way and will not be lost.

    `caller` is the verified one: idempotency keys are theirs alone. `fields` are those of NormalizedRequest. Raises
    Unavailable when the broker did not take it.
    """
    normalized = NormalizedRequest(
        request_id=request_id or new_request_id(request, integration, caller),
        integration_type=integration,
        accepted_at=datetime.now(UTC),
        traceparent=tracing.traceparent() or events.traceparent(request.headers.get("traceparent")),
        **fields,
    )
    note_ids(request_id=normalized.request_id, trace_id=(normalized.traceparent or "")[3:35])
    broker.publish(
        events.make(
            f"ingest-{integration}",
            events.REQUEST_CREATED,
            normalized.request_id,
            normalized,
            request_id=normalized.request_id,
            session_id=None,
            integration=integration,
            partition_key=normalized.conversation_key,
            time=normalized.accepted_at,
            traceparent=normalized.traceparent,
        )
    )
    status_url = f"/api/v1/requests/{normalized.request_id}"
    body = {"request_id": normalized.request_id, "status": "accepted", "status_url": status_url}
    return Answer(json.dumps(body), 202, {"Location": status_url}, content_type="application/json")
