"""One request as the tables have it, for operators: its way, what was asked and answered, its dead letters whole."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from common.database import connection_settings, load_queries
from common.errors import SettingError
from common.traces import trace_view
from infra.cli.failures import Unknown, Unreachable, Wrong

Document = dict[str, Any]

_REQUEST = """
SELECT user_id, integration_key, request_type, agent_id, accepted_at AS created_at, completed_at, processing_time_ms,
       request_content AS question, response_content AS answer, error_code, error_message, attempts, model_calls,
       delivery_attempts, delivered_at, delivery_reference, delivery_error, undeliverable_at
FROM request_logs WHERE request_id = %(request_id)s
"""
_SESSION = """
SELECT s.status, s.current_agent_id, s.total_requests, s.created_at, s.expires_at, s.lease_owner, s.lease_until,
       (SELECT count(*) FROM request_logs r
        WHERE r.session_id = s.session_id AND r.status IN ('queued', 'processing')) AS unfinished
FROM request_sessions s WHERE s.session_id = %(session_id)s::uuid
"""
_DEAD_LETTERS = """
SELECT dead_letter_id AS id, event_type AS type, event_id, event_source AS source, destination, error_code AS code,
       error_data, seen, resends, created_at, updated_at AS at, replayed_at, event
FROM dead_letters WHERE request_id = %(request_id)s ORDER BY dead_letter_id
"""


def from_environment(request_id: str) -> Document:
    """The request in the database of POSTGRES_*.

    Raises Wrong for settings that cannot be used, Unreachable when the database does not answer, Unknown when the request is
    not in it.
    """
    try:
        with psycopg.connect(**connection_settings(), autocommit=True) as connection:
            found = read(connection, request_id)
    except SettingError as error:
        raise Wrong(str(error)) from None
    except psycopg.errors.UndefinedTable:
        raise Wrong("the database has no tables yet: the migrations have not run") from None
    except psycopg.Error as error:  # its text may quote a row
        raise Unreachable(f"the database does not answer ({type(error).__name__})") from None
    if found is None:
        raise Unknown("There is no such request in the database.")
    return found


def read(connection: psycopg.Connection[Any], request_id: str) -> Document | None:
    """The document of GET /api/v1/requests/{id}/trace, and what only operators may see; None when there is nothing of it.

    A request that has dead letters and is in no other table has the status `unrecorded` and no steps.
    """
    if "\0" in request_id:
        return None
    given = {"request_id": request_id}
    with connection.cursor(row_factory=dict_row) as cursor:
        trace = cursor.execute(load_queries()["get_trace"], given).fetchone()
        row = cursor.execute(_REQUEST, given).fetchone()
        rows = cursor.execute(_DEAD_LETTERS, given).fetchall()
        letters = [_plain(letter) | {"why": why(letter["error_data"])} for letter in rows]
        if trace is None or row is None:
            return _unrecorded(request_id, letters) if letters else None
        view = trace_view(next(iter(trace.values())))
        session = cursor.execute(_SESSION, {"session_id": view["session_id"]}).fetchone()
    code, message = row.pop("error_code"), row.pop("error_message")
    return {
        **view,
        **_plain(row),
        "error": None if code is None else {"code": code, "message": message},
        "session": None if session is None else _plain(session),
        "dead_letters": letters,
    }


def _unrecorded(request_id: str, letters: list[Document]) -> Document:
    nothing = dict.fromkeys(("session_id", "integration_type", "trace_id"))
    return {"request_id": request_id, **nothing, "status": "unrecorded", "steps": [], "dead_letters": letters}


def why(error_data: str | None) -> str:
    """What the subscriber answered, as far as the broker kept it (knativeerrordata is base64)."""
    try:
        return base64.b64decode(error_data or "", validate=True).decode("utf-8", "replace").strip()
    except binascii.Error:
        return str(error_data)


def _plain(row: Document) -> Document:
    kept = {name: value for name, value in row.items() if name != "error_data"}
    return {name: _time(value) if isinstance(value, datetime) else value for name, value in kept.items()}


def _time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
