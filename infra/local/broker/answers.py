"""What an answer of a subscriber means: the multi-tenant channel broker's table (its facts: KNATIVE.md).

Source: knative/eventing pkg/kncloudevents/retries.go (SelectiveRetry) and pkg/broker/filter/filter_handler.go
(writeResponse).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from infra.local.broker.cloudevent import CloudEvent, InvalidEvent, encode_value, parse

MAX_EVENT_BYTES = 1 << 20  # of data, in and as a reply; Kafka's record limit
NO_ANSWER = 500  # the code that Knative gives to no connection and to a timeout (event_dispatcher.go)
_NOT_AN_EVENT = 502
_TOO_LARGE = 413
_MAX_ERROR_DATA = 1024  # characters of base64
_PASSING = frozenset({404, 408, 409, 429})


class Action(Enum):
    """What to do with a delivery after an answer."""

    FINISH = "finish"
    RETRY = "retry"
    DEAD_LETTER = "dead-letter"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. `cut`: its body went on. Without one `status` is None and `body` says why."""

    status: int | None
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of an answer: `code` is what it counts as, `reply` the event that it carries."""

    action: Action
    code: int
    reply: CloudEvent | None = None


def judge(answer: Answer) -> Verdict:
    """Look the answer up in the table."""
    status = answer.status
    if status is None:
        return Verdict(Action.RETRY, NO_ANSWER)
    if status >= 500 or status in _PASSING:
        return Verdict(Action.RETRY, status)
    if not 200 <= status < 300:
        return Verdict(Action.DEAD_LETTER, status)
    if answer.cut:
        # No broker could store such a reply; the same answer will not be smaller next time.
        return Verdict(Action.DEAD_LETTER, _TOO_LARGE)
    try:
        reply = parse(answer.headers, answer.body)
    except InvalidEvent:
        return Verdict(Action.RETRY, _NOT_AN_EVENT)
    if reply is None and answer.body:
        return Verdict(Action.RETRY, _NOT_AN_EVENT)
    return Verdict(Action.FINISH, status, reply)


def dead_letter_headers(destination: str, code: int, body: bytes) -> dict[str, str]:
    """Return the extensions of a dead letter: where it failed, with what code, and the answer's body.

    The body is base64, cut at 1024 characters (knative/eventing pkg/kncloudevents/attributes).
    """
    headers = {"ce-knativeerrordest": encode_value(destination), "ce-knativeerrorcode": str(code)}
    if body:
        headers["ce-knativeerrordata"] = base64.b64encode(body[:_MAX_ERROR_DATA]).decode()[:_MAX_ERROR_DATA]
    return headers
