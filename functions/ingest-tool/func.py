"""A tool asks for somebody (a ticket system, a monitor): verify its key, normalise, publish."""

from typing import Annotated, Any

from parliament import Context
from pydantic import Field, StringConstraints

from common.bodies import RequestBody, read_body
from common.broker import Broker
from common.errors import Forbidden
from common.function import Function
from common.ingest import accept, conversation
from common.methods import only_post
from common.tool_keys import ToolKeys

broker = Broker()
keys = ToolKeys()
function = Function("ingest-tool", "ingest", paths=("/api/v1/requests/tool",), needs=(broker,))


class ToolBody(RequestBody):
    """The document's body. `tool_context` (a ticket's id, its priority) is what the agent may know."""

    tool_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    tool_instance_id: Annotated[str | None, Field(max_length=256)] = None
    trigger_event: Annotated[str | None, Field(max_length=256)] = None
    tool_context: dict[str, Any] = Field(default_factory=dict)


def main(context: Context) -> Any:
    """POST a message: 202 once the broker has it. The answer goes to the tool's webhook."""
    only_post(context.request)
    tool_id = keys.identify(context.request)
    body = read_body(context.request, ToolBody)
    if body.tool_id != tool_id:
        raise Forbidden("The API key is not that tool's.")
    return accept(
        broker,
        context.request,
        "tool",
        caller=tool_id,
        integration_key=tool_id,
        user_id=body.user_id,
        content=body.content,
        request_type=body.request_type,
        conversation_key=conversation("tool", tool_id, body.tool_instance_id, body.user_id),
        external_session_id=body.tool_instance_id,
        metadata={"trigger_event": body.trigger_event} if body.trigger_event else {},
        context={
            "tool_id": tool_id,
            "trigger_event": body.trigger_event,
            "tool_context": body.tool_context,
        },
    )
