"""A tick of the clock (PingSource): expire idle sessions, delete what is past retention, move on what stopped moving."""

from typing import Any

from cloudevents.exceptions import GenericException
from cloudevents.http import from_http
from parliament import Context
from sweep import Limits, Sweep
from waiting import Waiting

from common import events, settings
from common.broker import Broker
from common.database import Database
from common.function import Function

PING = "dev.knative.sources.ping"

broker = Broker()
database = Database()
sweep = Sweep(
    database,
    broker,
    Limits(
        retention_days=settings.integer("RETENTION_DAYS", 90, least=1, most=36_500),
        stalled_seconds=settings.number("STALLED_SECONDS", 600, least=0.1, most=86_400),
        max_resumes=settings.integer("MAX_RESUMES", 3, least=0, most=100),
        batch=settings.integer("SWEEP_BATCH", 500, least=1, most=10_000),
        batches=settings.integer("SWEEP_BATCHES", 20, least=1, most=10_000),
    ),
)
waiting = Waiting(database)
function = Function("session-sweep", "event", needs=(database, broker))


def main(context: Context) -> Any:
    """One sweep for each tick, whatever its data are; no reply. Two at once do no harm."""
    try:
        # Not context.cloud_event: parliament knows no event whose data are not what their content type says.
        event = from_http(context.request.headers, context.request.get_data(), data_unmarshaller=lambda data: data)
    except GenericException:
        event = None
    events.read(event, PING)
    sweep.run()
    return "", 204
