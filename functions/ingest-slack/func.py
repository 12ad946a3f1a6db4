"""Somebody in Slack asks: verify the signature, normalise, publish."""

from typing import Annotated, Any

from parliament import Context
from pydantic import Field
from verify import SlackSignature

from common.bodies import Id, RequestBody, read_body
from common.broker import Broker
from common.function import Function
from common.ingest import accept, conversation
from common.methods import only_post

broker = Broker()
signature = SlackSignature()
function = Function("ingest-slack", "ingest", paths=("/api/v1/requests/slack",), needs=(broker,))


class SlackBody(RequestBody):
    """The document's body, signed as Slack signs. `channel_id` and `thread_id` are where the answer goes."""

    channel_id: Id
    thread_id: Annotated[str | None, Field(max_length=64)] = None
    slack_user_id: Annotated[str | None, Field(max_length=64)] = None
    slack_team_id: Annotated[str | None, Field(max_length=64)] = None


def main(context: Context) -> Any:
    """POST a message: 202 once the broker has it."""
    only_post(context.request)
    signature.verify(context.request)
    body = read_body(context.request, SlackBody)
    place = (body.slack_team_id, body.channel_id, body.thread_id)
    return accept(
        broker,
        context.request,
        "slack",
        caller=body.user_id,
        user_id=body.user_id,
        content=body.content,
        request_type=body.request_type,
        conversation_key=conversation("slack", *place, body.slack_user_id or body.user_id),
        shared_key=conversation("slack", *place),
        channel_id=body.channel_id,
        thread_id=body.thread_id,
        external_session_id=body.thread_id,
        metadata={"slack_user_id": body.slack_user_id, "slack_team_id": body.slack_team_id},
    )
