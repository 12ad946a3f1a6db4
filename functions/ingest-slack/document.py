"""The document's own JSON body, for relays that are not Slack itself but sign as it does."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Request, Response
from pydantic import Field, StringConstraints

from common.bodies import RequestBody, check_body
from common.broker import Broker
from common.ingest import accept, conversation


class SlackBody(RequestBody):
    """The document's body. `channel_id` and `thread_id` are where the answer goes."""

    channel_id: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128)]
    thread_id: Annotated[str | None, Field(max_length=64)] = None
    slack_user_id: Annotated[str | None, Field(max_length=64)] = None
    slack_team_id: Annotated[str | None, Field(max_length=64)] = None


def accept_document(broker: Broker, request: Request, value: Any) -> Response:
    """Publish it and answer 202.

    Raises Invalid for fields that are missing or wrong, Unavailable when the broker did not take it.
    """
    body = check_body(value, SlackBody)
    place = (body.slack_team_id, body.channel_id, body.thread_id)
    return accept(
        broker,
        request,
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
