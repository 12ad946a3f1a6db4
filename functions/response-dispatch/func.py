"""agent.response-ready: bring the answer back to where it was asked.

A browser and a terminal read theirs from request-status, which the commit has woken already. Slack and a tool's webhook are
sent to: recorded before and after, so that a second delivery of the event sends nothing twice.
"""

from typing import Any

import slack_thread
import tool_webhook
from channel import Answer, Channel
from parliament import Context

from common import events, faults, metrics
from common.database import Database
from common.errors import InProgress, Malformed, ServiceError
from common.function import Function

SENDING_SECONDS = 60.0  # longer than a send can take; after it another delivery of the event may send

database = Database()
channels: dict[str, Channel] = {"slack": slack_thread.Slack(), "tool": tool_webhook.Webhooks()}
function = Function("response-dispatch", "event", needs=(database,))


def main(context: Context) -> Any:
    """Send the committed answer (never the event's text) unless it was sent before; no reply."""
    event = events.read(context.cloud_event, events.RESPONSE_READY)
    ready = events.data_of(event, events.ResponseReady)
    channel = channels.get(ready.integration_type)
    if channel is None:
        return "", 204
    begun = database.step("begin_delivery", {"request_id": ready.request_id, "lease": SENDING_SECONDS})
    if begun["outcome"] == "delivered":
        return "", 204
    if begun["outcome"] == "busy":
        raise InProgress("The answer is being sent.")
    if begun["outcome"] != "send":
        raise Malformed("There is no finished request of that id.")
    deliver(channel, Answer.of(begun))
    return "", 204


def deliver(channel: Channel, answer: Answer) -> None:
    """Send through the channel and record how it went.

    Raises what the channel raises: Unavailable when it may work later, Refused when it never will.
    """
    done = {"request_id": answer.request_id, "reference": None, "error": None}
    try:
        faults.point("deliver.before")
        done["reference"] = channel.send(answer)
        faults.point("deliver.after")
    except ServiceError as error:
        metrics.DELIVERIES.labels(channel.name, "failure").inc()
        database.step("finish_delivery", {**done, "error": error.detail})
        raise
    metrics.DELIVERIES.labels(channel.name, "success").inc()
    database.step("finish_delivery", done)
