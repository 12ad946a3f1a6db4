"""What a channel is given and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from common.errors import ServiceError


class Refused(ServiceError):
    """The channel will never take this: the place is gone, the message is not allowed. The broker must not try again."""

    status = 422
    title = "Delivery refused"


class Gone(Refused):
    """The place says that it is gone for good (410): nothing more should be sent to it."""


def retry_after(value: str | None) -> float:
    """Seconds until a Retry-After header's time, at least 1: a number of seconds or a date (RFC 9110, 10.2.3)."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 6:
        return max(1.0, float(text))
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 1.0
    if when.tzinfo is None:  # "-0000": UTC, says RFC 5322
        when = when.replace(tzinfo=UTC)
    return max(1.0, (when - datetime.now(UTC)).total_seconds())


@dataclass(frozen=True)
class Answer:
    """A finished request's answer and where it goes.

    `look_first`: an earlier attempt may have left something at the channel. `placeholder_*`: the message in Slack that the
    answer replaces.
    """

    request_id: str
    session_id: str | None
    user_id: str
    status: str
    content: str
    agent_id: str | None
    error: Mapping[str, str] | None
    completed_at: str
    integration_type: str
    integration_key: str
    channel_id: str | None
    thread_id: str | None
    question: str
    context: Mapping[str, Any]
    delivery: Mapping[str, Any]
    attempt: int
    accepted_at: datetime
    look_first: bool
    placeholder_channel: str | None
    placeholder_ts: str | None

    @classmethod
    def of(cls, begun: Mapping[str, Any]) -> Answer:
        """From what begin_delivery returned; a failed request's content is its sentence for people."""
        answer, request = begun["answer"], begun["request"]
        error = answer["error"]
        return cls(
            request_id=answer["request_id"],
            session_id=answer["session_id"],
            user_id=answer["user_id"],
            status=answer["status"],
            content=answer["content"] if error is None else error["message"],
            agent_id=answer["agent_id"],
            error=error,
            completed_at=answer["completed_at"],
            integration_type=answer["integration_type"],
            integration_key=answer["integration_key"],
            channel_id=request.get("channel_id"),
            thread_id=request.get("thread_id"),
            question=request.get("content") or "",
            context=request.get("context") or {},
            delivery=begun["delivery"],
            attempt=begun["attempt"],
            accepted_at=datetime.fromisoformat(request["accepted_at"]),
            look_first=begun["attempt"] > 1 or begun.get("look_first", False),
            placeholder_channel=begun.get("placeholder_channel"),
            placeholder_ts=begun.get("placeholder_ts"),
        )


class Channel(Protocol):
    """A way to send answers out. `begin` is the statement that takes a delivery."""

    name: str
    begin: str

    def send(self, answer: Answer) -> str | None:
        """Send it and return what the channel calls the message.

        Raises Unavailable when it may work later, Refused when it never will.
        """
