"""What an event function may answer to a broker."""

from __future__ import annotations

from tests.parts.net import Answer


def wrong_answer(name: str, answer: Answer) -> str | None:
    """Why a broker would not count this as done, where the function thinks it is; None if it is right.

    KNATIVE.md: a 2xx with a body that is no CloudEvent is retried and dead-lettered.
    """
    event = "ce-type" in answer.headers or answer.headers.get("content-type", "").startswith("application/cloudevents")
    if 200 <= answer.status < 300 and answer.body and not event:
        kind = answer.headers.get("content-type", "a body")
        return f"{name} answers {answer.status} with {kind}, which is no CloudEvent: a broker sends the event again"
    if answer.status == 200 and event and "content-type" not in answer.headers:
        return f"{name} answers a CloudEvent without datacontenttype"
    return None
