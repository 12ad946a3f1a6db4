"""What is known about a run when it is over, from outside. Times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FINISHED = ("completed", "failed")


@dataclass(frozen=True)
class Accepted:
    """A POST that was answered 202. `mark` stands in its content, and so in what the model is asked and in the answer."""

    request_id: str
    integration: str
    conversation: str
    mark: str


@dataclass(frozen=True)
class Row:
    """A row of request_logs."""

    request_id: str
    session_id: str | None
    status: str
    accepted_at: float
    model_calls: int
    attempts: int
    content: str | None
    error_message: str | None
    error_code: str | None = None
    calls_of_answer: int = 0
    """How many calls of the model its committed answer took; `model_calls` counts those of lost attempts too."""


@dataclass(frozen=True)
class Result:
    """GET /api/v1/requests/<id>, as its owner reads it."""

    http_status: int
    status: str | None = None
    content: str | None = None
    error_message: str | None = None


@dataclass(frozen=True)
class Change:
    """One change of a row's status, attempts or answer, in the order in which they happened; `before` None: it was new."""

    at: float
    request_id: str
    before: str | None
    after: str
    is_start: bool
    """The turn was claimed by it: processing, one attempt more."""
    changes_answer: bool


@dataclass(frozen=True)
class Call:
    """One call that reached the model; `ended` None: the model was killed meanwhile."""

    mark: str
    started: float
    ended: float | None


@dataclass(frozen=True)
class Sent:
    """What Slack or a webhook was sent. `key` is what lets the receiver know a repeat, None when it was missing."""

    channel: str
    request_id: str | None
    key: str | None
    content: str


@dataclass(frozen=True)
class Disturbance:
    """Something that was done to the system: a kill, a stop, a cut, a fault that fired."""

    kind: str
    part: str
    started: float
    ended: float


@dataclass(frozen=True)
class Records:
    """Everything about one run. `ids_of_key`: the request ids of one Idempotency-Key, or of one mark."""

    accepted: tuple[Accepted, ...]
    results: Mapping[str, Result]
    rows: Mapping[str, Row]
    changes: tuple[Change, ...]
    calls: tuple[Call, ...]
    sent: tuple[Sent, ...]
    disturbances: tuple[Disturbance, ...] = ()
    ids_of_key: Mapping[str, frozenset[str]] = field(default_factory=dict)
    read_early: tuple[tuple[str, Result], ...] = ()
    """What was read at the API while everything was being broken, of requests that had ended: request_id, result."""
    lease_seconds: float = 15.0


@dataclass(frozen=True)
class Violation:
    """A promise that was broken: for which request (or session, conversation), and how."""

    about: str
    how: str
