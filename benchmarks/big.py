"""A database as it is after years: a million sessions with five requests each, made in one go."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import psycopg
from psycopg import sql

from tests.parts.postgres import Postgres

SESSIONS, TURNS = 1_000_000, 5
OPEN_SESSIONS = 1000  # the newest ones have a turn that waits; the benchmarks ask in other ones
_TABLES = ("request_logs", "request_sessions")

# Half of the sessions are active, the others past; the ids are as scattered as random ones, and known by their number.
_SESSIONS = """
INSERT INTO request_sessions (session_id, integration_type, user_id, conversation_key, status, channel_id, thread_id,
    external_session_id, current_agent_id, integration_metadata, total_requests, input_tokens, output_tokens, lease_fence,
    last_turn_at, turn_claimed_at, last_request_at, expires_at, check_at, created_at, updated_at)
SELECT md5('session ' || n)::uuid, t.type, 'user' || mod(n, 200000), md5('conversation ' || n) || '00000000',
    CASE WHEN mod(n, 2) = 0 THEN 'active' ELSE 'expired' END,
    CASE WHEN t.type = 'slack' THEN 'C' || mod(n, 5000) END,
    CASE WHEN t.type = 'slack' THEN '1700000000.' || mod(n, 1000000) END,
    'token' || n, 'routing-agent', jsonb_build_object('client_ip', '192.168.1.1', 'user_agent', 'Mozilla/5.0 (X11; Linux)'),
    %(turns)s, 2500, 300, %(turns)s, c.at, c.at, c.at,
    CASE WHEN mod(n, 2) = 0 THEN now() + interval '1 day' ELSE c.at + interval '12 hours' END,
    CASE WHEN mod(n, 2) = 0 THEN now() + interval '12 hours' ELSE c.at END, c.at, c.at
FROM generate_series(0, %(sessions)s::integer - 1) n,
    LATERAL (SELECT CASE WHEN mod(n, 20) < 12 THEN 'web' WHEN mod(n, 20) < 17 THEN 'slack' ELSE 'tool' END AS type) t,
    LATERAL (SELECT now() - interval '80 days' * ((%(sessions)s - n) / %(sessions)s::float8) AS at) c
"""
_REQUESTS = """
INSERT INTO request_logs (request_id, session_id, integration_type, integration_key, user_id, request_content,
    normalized_request, opened_session, status, agent_id, response_content, response_metadata, attempts, model_calls,
    processing_time_ms, cloudevent_id, delivery_attempts, delivered_at, accepted_at, recorded_at, started_at, completed_at)
SELECT r.id, md5('session ' || n)::uuid, t.type, CASE WHEN t.type = 'tool' THEN 'snow-integration' ELSE '' END,
    'user' || mod(n, 200000), 'I want to refresh my laptop, which one may I have?',
    jsonb_build_object('request_id', r.id, 'integration_type', t.type, 'user_id', 'user' || mod(n, 200000),
        'content', 'I want to refresh my laptop, which one may I have?', 'request_type', 'message',
        'conversation_key', md5('conversation ' || n) || '00000000', 'accepted_at', c.at,
        'traceparent', '00-' || md5(r.id) || '-b7ad6b7169203331-01',
        'metadata', jsonb_build_object('client_ip', '192.168.1.1'), 'context', '{}'::jsonb),
    k = 1, CASE WHEN r.waits THEN 'queued' ELSE 'completed' END, CASE WHEN NOT r.waits THEN 'laptop-refresh' END,
    CASE WHEN NOT r.waits THEN repeat('You can refresh your laptop after three years; which one do you have? ', 3) END,
    '{"usage": {"input_tokens": 500, "output_tokens": 60}, "handoffs": []}', 1, 1, 1200, r.id, 1,
    CASE WHEN t.type <> 'web' AND NOT r.waits THEN c.at + interval '2 seconds' END, c.at, c.at, c.at,
    CASE WHEN NOT r.waits THEN c.at + interval '1 second' END
FROM generate_series(0, %(sessions)s::integer - 1) n, generate_series(1, %(turns)s::integer) k,
    LATERAL (SELECT CASE WHEN mod(n, 20) < 12 THEN 'web' WHEN mod(n, 20) < 17 THEN 'slack' ELSE 'tool' END AS type) t,
    LATERAL (SELECT now() - interval '80 days' * ((%(sessions)s - n) / %(sessions)s::float8)
                    + interval '1 minute' * k AS at) c,
    LATERAL (SELECT md5('request ' || n || ' ' || k)::uuid::text AS id,
                    n >= %(sessions)s - %(open)s AND mod(n, 2) = 0 AND k = %(turns)s AS waits) r
"""


def fill(postgres: Postgres, sessions: int = SESSIONS, turns: int = TURNS) -> float:
    """Replace what the tables hold by that many sessions, with `turns` requests each; the seconds that it took.

    In one transaction that empties the tables first, which spares the write-ahead log (wal_level=minimal), and with the
    indexes made at the end.
    """
    started = time.monotonic()
    with postgres.connect() as connection:
        with connection.transaction():
            connection.execute("TRUNCATE request_logs, request_sessions")
            again = [statement for table in _TABLES for statement in _without_indexes(connection, table)]
            scope = {"sessions": sessions, "turns": turns, "open": OPEN_SESSIONS}
            connection.execute(_SESSIONS, scope)
            connection.execute(_REQUESTS, scope)
            connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
            for statement in sorted(again, key=lambda text: "FOREIGN KEY" in text):
                connection.execute(sql.SQL(statement))  # the server's own text
        connection.execute("VACUUM (ANALYZE) request_logs, request_sessions")
        connection.execute("CHECKPOINT")
    return time.monotonic() - started


def conversation(number: int) -> str:
    """The conversation key of a session, which is active when its number is even."""
    return hashlib.md5(f"conversation {number}".encode(), usedforsecurity=False).hexdigest() + "00000000"


def type_of(number: int) -> str:
    """The integration of a session."""
    return "web" if number % 20 < 12 else "slack" if number % 20 < 17 else "tool"


def _without_indexes(connection: psycopg.Connection[Any], table: str) -> list[str]:
    """Drop a table's keys and indexes; the statements that make them again."""
    keys = connection.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = %s::regclass AND contype IN ('p', 'f') ORDER BY contype",
        (table,),
    ).fetchall()
    for name, _ in keys:
        connection.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.Identifier(table), sql.Identifier(name)))
    indexes = connection.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s", (table,)).fetchall()
    for name, _ in indexes:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    made = [f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}" for name, definition in keys]
    return [*made, *(definition for _, definition in indexes)]
