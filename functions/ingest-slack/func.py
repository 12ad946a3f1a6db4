"""Somebody in Slack asks: verify the signature, normalise, publish."""

from typing import Any

from asks import Ask, ask_of
from document import accept_document
from envelope import Challenge, Document, Nothing, read
from flask import Request
from parliament import Context
from verify import SlackSignature

from common.broker import Broker
from common.errors import Unavailable
from common.function import Function
from common.ingest import accept
from common.methods import only_post

ON_IT = "I am on it. The answer comes as a direct message from me."
NOT_NOW = "I cannot take your request just now. Please send it again in a moment."

broker = Broker()
signature = SlackSignature()
function = Function("ingest-slack", "ingest", paths=("/api/v1/requests/slack",), needs=(broker,))


def main(context: Context) -> Any:
    """Slack hears 200 once the broker has its request, or at once when it asks for nothing; the document's body 202."""
    only_post(context.request)
    signature.verify(context.request)
    envelope = read(context.request)
    if isinstance(envelope, Document):
        return accept_document(broker, context.request, envelope.value)
    if isinstance(envelope, Challenge):
        return {"challenge": envelope.text}
    ask = None if isinstance(envelope, Nothing) else ask_of(envelope)
    if ask is None:
        return "", 200
    return acknowledge(context.request, ask)


def acknowledge(request: Request, ask: Ask) -> Any:
    """Publish a request of Slack's and answer what its sender needs to hear.

    Raises Unavailable when the broker did not take it: Slack sends an event again, and marks a button as not working.
    A command it would not send again, so the person is asked to.
    """
    try:
        accept(broker, request, "slack", caller=ask.user_id, **ask.request())
    except Unavailable:
        if ask.kind != "command":
            raise
        return {"response_type": "ephemeral", "text": NOT_NOW}
    if ask.kind == "command":
        return {"response_type": "ephemeral", "text": ON_IT}
    return "", 200
