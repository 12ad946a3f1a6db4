"""A person in a terminal asks: verify, normalise, publish."""

from typing import Annotated, Any

from parliament import Context
from pydantic import Field

from common import auth
from common.bodies import RequestBody, read_body
from common.broker import Broker
from common.function import Function
from common.ingest import accept, conversation
from common.methods import only_post

broker = Broker()
callers = auth.authenticator()
function = Function("ingest-cli", "ingest", paths=("/api/v1/requests/cli",), needs=(broker,))


class CliBody(RequestBody):
    """The document's body. `command_context` is what was typed; the agent may know it."""

    cli_session_id: Annotated[str | None, Field(max_length=256)] = None
    command_context: dict[str, Any] = Field(default_factory=dict)


def main(context: Context) -> Any:
    """POST a message: 202 once the broker has it."""
    only_post(context.request)
    caller = callers.identify(context.request)
    body = read_body(context.request, CliBody)
    caller.require(body.user_id)
    return accept(
        broker,
        context.request,
        "cli",
        caller=body.user_id,
        user_id=body.user_id,
        content=body.content,
        request_type=body.request_type,
        conversation_key=conversation("cli", body.user_id, body.cli_session_id),
        external_session_id=body.cli_session_id,
        context={"command": body.command_context} if body.command_context else {},
    )
