"""Waiting until everything has settled, and reading from outside what became of each request."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from urllib3.exceptions import HTTPError

from tests.chaos.clients import SLACK_CHANNEL, Asked, is_native_thread, read_result, thread_of
from tests.chaos.knobs import Knobs
from tests.chaos.records import Call, Change, Disturbance, Records, Row, Sent
from tests.chaos.system import System
from tests.parts.net import call

_MARK = re.compile(r"\[r\d+-\d+\]")
_OPEN = """
SELECT count(*) FROM request_logs
WHERE completed_at IS NULL OR (delivered_at IS NULL AND integration_type IN ('slack', 'tool') AND undeliverable_at IS NULL)
"""
_ROWS = """
SELECT request_id, session_id::text, status, extract(epoch FROM accepted_at)::float8, model_calls, attempts,
       response_content, error_message, error_code,
       CASE WHEN status = 'completed' THEN 1 + coalesce(jsonb_array_length(response_metadata -> 'handoffs'), 0) ELSE 0 END
FROM request_logs
"""
_MARKS = "SELECT request_id, request_content FROM request_logs WHERE request_content LIKE '%%[r%%-%%]%%'"
_CHANGES = """
SELECT extract(epoch FROM at)::float8, request_id, before, after, is_start, changes_answer FROM chaos_changes ORDER BY n
"""


def settle(system: System, seconds: float) -> float:
    """Wait until nothing is on its way any more, at most so long; how long it took. What is open then is for the oracles."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if _is_settled(system):
            break
        time.sleep(0.2)
    return time.monotonic() - began


def _is_settled(system: System) -> bool:
    try:
        healthy = call("GET", f"{system.platform.url}/health").status == 200
        waiting = call("GET", f"{system.broker_url}/_broker/stats").json()["waiting"]
    except HTTPError:
        return False
    return healthy and waiting == 0 and system.database.query(_OPEN) == [(0,)]


def collect(system: System, asked: Asked, disturbances: tuple[Disturbance, ...], knobs: Knobs) -> Records:
    """Everything that is known about the run."""
    read = partial(read_result, system.platform.url)
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for key, answered in asked.ids_of_key.items():
        ids[key] |= answered
    for request_id, content in system.database.query(_MARKS):
        ids[_MARK.findall(content)[-1]].add(request_id)
    # Slack is not told ids: what it asked is found by the mark in it, or it is lost.
    known = [replace(one, request_id=one.request_id or min(ids.get(one.mark) or {one.mark})) for one in asked.accepted]
    accepted = tuple({one.request_id: one for one in known}.values())
    with ThreadPoolExecutor(8) as pool:
        results = dict(
            zip((one.request_id for one in accepted), pool.map(read, (one.request_id for one in accepted)), strict=True)
        )
    deliveries = call("GET", f"{system.platform.url}/_platform/deliveries").json()
    return Records(
        accepted=accepted,
        results=results,
        rows={row[0]: Row(*row) for row in system.database.query(_ROWS)},
        changes=tuple(Change(*row) for row in system.database.query(_CHANGES)),
        calls=read_calls(system.call_log),
        sent=(*_sent(deliveries, knobs.sessions), *_in_threads(system, knobs.sessions)),
        disturbances=disturbances,
        read_early=tuple(asked.read_early),
        ids_of_key={key: frozenset(found) for key, found in ids.items()},
        lease_seconds=knobs.lease_seconds,
    )


def read_calls(path: Path) -> tuple[Call, ...]:
    """The calls that reached the model. It writes each twice, the second time with its end, by a monotonic clock."""
    offset = time.time() - time.monotonic()
    calls: dict[tuple[str, float], Call] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        marks = _MARK.findall(one["last_user_message"])
        ended = None if one["ended"] is None else one["ended"] + offset
        calls[one["last_user_message"], one["started"]] = Call(marks[-1] if marks else "", one["started"] + offset, ended)
    return tuple(sorted(calls.values(), key=lambda call: call.started))


def _sent(deliveries: Iterable[dict[str, Any]], sessions: int) -> Iterable[Sent]:
    native = _native_threads(sessions)
    for one in deliveries:
        request_id, body = one["request_id"], one["body"]
        if one["channel"] == "webhook":
            data = body["data"]
            text = data["content"] if data["error"] is None else data["error"]["message"]
            yield Sent("webhook", request_id, one["headers"].get("webhook-id"), text)
        else:
            # What was posted into the threads of mentions, and changed there, is read from the threads themselves.
            if "ts" not in body and body.get("thread_ts") not in native:
                yield _message(request_id, body)


def _in_threads(system: System, sessions: int) -> Iterable[Sent]:
    """What stands in the threads of mentions in the end: there an answer takes the place of a sign."""
    for thread in sorted(_native_threads(sessions)):
        arguments = f"channel={SLACK_CHANNEL}&ts={thread}&include_all_metadata=true"
        url = f"{system.platform.url}/_platform/slack/api/conversations.replies?{arguments}"
        for message in call("GET", url, headers={"authorization": "Bearer xoxb-local"}).json()["messages"]:
            if message.get("bot_id"):
                payload = (message.get("metadata") or {}).get("event_payload") or {}
                yield _message(payload.get("request_id"), message)


def _native_threads(sessions: int) -> set[str]:
    return {thread_of(session) for session in range(sessions) if is_native_thread(session)}


def _message(request_id: str | None, message: dict[str, Any]) -> Sent:
    payload = (message.get("metadata") or {}).get("event_payload") or {}
    key = f"{payload['request_id']}/{payload.get('part')}" if "request_id" in payload else None
    return Sent("slack", request_id, key, message.get("text", ""))
