"""A person or a tool reads: a request's state (at once, after a wait, as a stream), its way, a session's conversation."""

from typing import Any

import stream
import views
from flask import Response
from parliament import Context
from readers import Readers
from waiting import Waiting

from common import settings, traces
from common.database import Database
from common.errors import NotFound
from common.function import Function
from common.logs import note_ids
from common.notifications import ANSWERS, CHUNKS, Notifications

THREADS = settings.integer("THREADS", 16, least=1, most=1000)
REQUEST = "/api/v1/requests/<request_id>"
STREAM = "/api/v1/requests/<request_id>/events"
TRACE = "/api/v1/requests/<request_id>/trace"
SESSION = "/api/v1/sessions/<session_id>"

database = Database()
notifications = Notifications(database, CHUNKS, ANSWERS)
readers = Readers()
waiting = Waiting(database, notifications, slots=max(1, THREADS - 8))
function = Function(
    "request-status", "read", paths=(REQUEST, STREAM, TRACE, SESSION), needs=(database,), parts=(notifications,)
)


def main(context: Context) -> Any:
    """GET one of the four; 404 for anything else."""
    request = context.request
    reader = readers.identify(request)
    parts = request.view_args or {}
    rule = request.url_rule.rule if request.url_rule else ""
    if rule == REQUEST:
        note_ids(request_id=parts["request_id"])
        row = waiting.request(parts["request_id"], reader, views.wait_seconds(request))
        return views.as_json(views.request_view(row))
    if rule == STREAM:
        note_ids(request_id=parts["request_id"])
        first = waiting.recorded(parts["request_id"], reader)
        body = stream.events(waiting, first, reader, stream.last_event_id(request))
        return Response(body, 200, stream.HEADERS, content_type="text/event-stream")
    if rule == TRACE:
        note_ids(request_id=parts["request_id"])
        return views.as_json(traces.trace_view(waiting.trace(parts["request_id"], reader)))
    if rule == SESSION:
        return views.as_json(views.session_view(waiting.session(parts["session_id"], reader)))
    raise NotFound("There is nothing at this path.")
