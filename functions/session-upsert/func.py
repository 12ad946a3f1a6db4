"""request.created: find or create the conversation's session, log the request once, pass both on."""

from typing import Any

from parliament import Context

from common import events, metrics
from common.database import Database
from common.function import Function
from common.logs import note_ids

database = Database()
function = Function("session-upsert", "event", needs=(database,))


def main(context: Context) -> Any:
    """Reply session.created or session.updated; for a request that is refused, agent.response-ready with the reason.

    The reply is made from the recorded row alone: the same event gives the same reply, and no second effect.
    """
    event = events.read(context.cloud_event, events.REQUEST_CREATED)
    request = events.data_of(event, events.NormalizedRequest)
    recorded = database.step("record_request", {"request": request.model_dump_json(), "event_id": event["id"]})
    if recorded["outcome"] == "failed":
        return events.response_ready(function.name, recorded["answer"])
    note_ids(session_id=recorded["session_id"])
    metrics.SESSIONS.labels(request.integration_type, recorded["outcome"]).inc()
    return session_ready(recorded)


def session_ready(recorded: dict[str, Any]) -> Any:
    """The event that says which session a recorded request belongs to."""
    request = events.NormalizedRequest.model_validate(recorded["request"])
    opened = recorded["outcome"] == "created"
    session = events.Session(session_id=recorded["session_id"], opened=opened)
    return events.make(
        function.name,
        events.SESSION_CREATED if opened else events.SESSION_UPDATED,
        f"{request.request_id}.session",
        events.SessionReady(session=session, request=request),
        request_id=request.request_id,
        session_id=session.session_id,
        integration=request.integration_type,
        partition_key=request.conversation_key,
        time=events.when(recorded["recorded_at"]),
        traceparent=request.traceparent,
    )
