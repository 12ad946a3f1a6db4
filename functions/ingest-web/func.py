"""A person in a browser asks: verify, normalise, publish. The page they do it on is served here too."""

from pathlib import Path
from typing import Annotated, Any

from page import Page
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
page = Page(Path(__file__).parent / "web", callers)
function = Function("ingest-web", "ingest", paths=("/api/v1/requests/web",), pages=("/web/<asset>",), needs=(broker,))


class WebBody(RequestBody):
    """The document's body. The session token names the conversation; only a hash of it goes on."""

    session_token: Annotated[str | None, Field(max_length=4096)] = None
    client_ip: Annotated[str | None, Field(max_length=64)] = None
    user_agent: Annotated[str | None, Field(max_length=1024)] = None


def main(context: Context) -> Any:
    """POST a message: 202 once the broker has it. GET the page, or a file of it."""
    if context.request.method in ("GET", "HEAD"):
        return page.answer(context.request)
    only_post(context.request)
    caller = callers.identify(context.request)
    body = read_body(context.request, WebBody)
    caller.require(body.user_id)
    return accept(
        broker,
        context.request,
        "web",
        caller=body.user_id,
        user_id=body.user_id,
        content=body.content,
        request_type=body.request_type,
        conversation_key=conversation("web", body.user_id, body.session_token),
        metadata={"client_ip": body.client_ip, "user_agent": body.user_agent},
    )
