"""request.created: find or create the conversation's session, log the request once, pass both on."""

from typing import Any

from parliament import Context

from common import events, metrics
from common.database import Database
from common.function import Function
from common.logs import note_ids

database = Database()
function = Function("session-upsert", "event", needs=(database,))
duplicates = metrics.DUPLICATES.labels(function.name)


def main(context: Context) -> Any:
    """Reply session.created or session.updated; for a request that is refused, agent.response-ready with the reason.

    No reply to what was said in a Slack thread by somebody who is in no conversation with us.

    The reply is made from the recorded row alone: the same event gives the same reply, and no second effect.
    """
    event = events.read(context.cloud_event, events.REQUEST_CREATED)
    request = events.data_of(event, events.NormalizedRequest)
    step = "record_thread_reply" if request.metadata.get("slack_event") == "thread_reply" else "record_request"
    recorded = database.step(step, {"request": request.model_dump_json(), "event_id": event["id"]})
    if recorded["outcome"] == "ignored":
        return "", 204
    if recorded["duplicate"]:
        duplicates.inc()
    if recorded["outcome"] == "failed":
        answer = recorded["answer"]
        metrics.REFUSED.labels(request.integration_type, answer["error"]["code"]).inc()
        return events.response_ready(function.name, answer)
    note_ids(session_id=recorded["session_id"])
    metrics.SESSIONS.labels(request.integration_type, recorded["outcome"]).inc()
    return events.session_ready(recorded)
