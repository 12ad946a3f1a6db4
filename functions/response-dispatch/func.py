"""agent.response-ready: bring the answer back to where it was asked.

A browser and a terminal read theirs from request-status, which the commit has woken already. Slack and a tool's webhook are
sent to: recorded before and after, so that a second delivery of the event sends nothing twice.

session.created and session.updated of requests from Slack: show there that the agent is at work.
"""

import logging
from datetime import UTC, datetime
from typing import Any

import tool_webhook
from channel import Answer, Channel, Gone, Refused
from destinations import Destinations, HeldOff
from parliament import Context
from placeholder import Placeholder
from slack_api import SlackApi
from slack_thread import Slack

from common import events, faults, metrics, settings
from common.database import Database
from common.errors import InProgress, Malformed, ServiceError
from common.function import Function

log = logging.getLogger(__name__)

# Longer than a send can take; after it another delivery of the event may send, for whoever began has died.
SENDING_SECONDS = settings.number("SENDING_SECONDS", 60, least=1, most=600)
THREADS = settings.integer("THREADS", 16, least=1, most=1000)

database = Database()
slack = SlackApi()
placeholder = Placeholder(slack, database, limit=max(1, THREADS // 4))
# Integrations whose answers are sent; the others read theirs. `make new-integration` adds a line.
channels: dict[str, Channel] = {
    "slack": Slack(slack),
    "tool": tool_webhook.Webhooks(),
}
for channel in channels.values():
    for outcome in ("success", "failure"):  # there from the start, so that the first one is seen to be one more
        metrics.DELIVERIES.labels(channel.name, outcome)
    metrics.DELIVERIES_HELD_OFF.labels(channel.name)
destinations = Destinations(limit=max(1, THREADS // 4))
function = Function("response-dispatch", "event", needs=(database,))
duplicates = metrics.DUPLICATES.labels(function.name)


def main(context: Context) -> Any:
    """Send the committed answer (never the event's text) unless it was sent before; no reply."""
    event = events.read(context.cloud_event, events.RESPONSE_READY, events.SESSION_CREATED, events.SESSION_UPDATED)
    if event["type"] != events.RESPONSE_READY:
        placeholder.show(events.data_of(event, events.SessionReady))
        return "", 204
    ready = events.data_of(event, events.ResponseReady)
    channel = channels.get(ready.integration_type)
    if channel is None:
        return "", 204
    begun = database.step(channel.begin, {"request_id": ready.request_id, "lease": SENDING_SECONDS})
    if begun["outcome"] == "delivered":
        duplicates.inc()
        return "", 204
    if begun["outcome"] == "disabled":
        metrics.DELIVERIES.labels(channel.name, "disabled").inc()
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
    try:
        with destinations.sending(answer):
            faults.point("deliver.before")
            with metrics.DELIVERY_SECONDS.labels(channel.name).time():
                reference = channel.send(answer)
            faults.point("deliver.after")
    except HeldOff:
        metrics.DELIVERIES_HELD_OFF.labels(channel.name).inc()
        database.step("release_delivery", {"request_id": answer.request_id})
        raise
    except Refused as refusal:
        metrics.DELIVERIES.labels(channel.name, "failure").inc()
        if isinstance(refusal, Gone):
            disable(answer, refusal.detail)
        database.step("refuse_delivery", {"request_id": answer.request_id, "error": refusal.detail})
        raise
    except ServiceError as error:
        metrics.DELIVERIES.labels(channel.name, "failure").inc()
        database.step("finish_delivery", {"request_id": answer.request_id, "reference": None, "error": error.detail})
        raise
    metrics.DELIVERIES.labels(channel.name, "success").inc()
    database.step("finish_delivery", {"request_id": answer.request_id, "reference": reference, "error": None})
    if reference is not None:  # else there was nowhere to send it
        took = datetime.now(UTC) - answer.accepted_at.astimezone(UTC)
        metrics.ARRIVED.labels(channel.name).observe(max(0.0, took.total_seconds()))


def disable(answer: Answer, reason: str) -> None:
    """Switch off the webhook that said it is gone, and say so once; `python -m infra.operate webhooks` switches it on."""
    parameters = {
        "type": answer.integration_type,
        "key": answer.integration_key,
        "url": answer.delivery.get("webhook_url"),
        "reason": reason,
    }
    if database.step("disable_webhook", parameters):
        metrics.WEBHOOKS_DISABLED.inc()
        log.warning(
            "a webhook is gone and was switched off", extra={"tool": answer.integration_key or answer.integration_type}
        )
