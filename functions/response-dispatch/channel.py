"""What a channel is given and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from common.errors import ServiceError


class Refused(ServiceError):
    """The channel will never take this: the place is gone, the message is not allowed. The broker must not try again."""

    status = 422
    title = "Delivery refused"


@dataclass(frozen=True)
class Answer:
    """A finished request's answer and where it goes."""

    request_id: str
    session_id: str | None
    user_id: str
    status: str
    content: str
    agent_id: str | None
    error: Mapping[str, str] | None
    completed_at: str
    integration_key: str
    channel_id: str | None
    thread_id: str | None
    context: Mapping[str, Any]
    delivery: Mapping[str, Any]
    attempt: int

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
            integration_key=answer["integration_key"],
            channel_id=request.get("channel_id"),
            thread_id=request.get("thread_id"),
            context=request.get("context") or {},
            delivery=begun["delivery"],
            attempt=begun["attempt"],
        )


class Channel(Protocol):
    """A way to send answers out."""

    name: str

    def send(self, answer: Answer) -> str | None:
        """Send it and return what the channel calls the message.

        Raises Unavailable when it may work later, Refused when it never will.
        """
