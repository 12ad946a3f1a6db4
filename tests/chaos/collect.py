"""Waiting until everything has settled, and reading from outside what became of each request."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from urllib3.exceptions import HTTPError

from tests.chaos.clients import Asked
from tests.chaos.records import FINISHED, Accepted, Call, Change, Disturbance, Records, Result, Row, Sent
from tests.chaos.system import System
from tests.parts.net import call

_MARK = re.compile(r"\[r\d+-\d+\]")
_SLACK_ANSWER = "self_service_agent_response"
_OPEN = """
SELECT count(*) FROM request_logs
WHERE completed_at IS NULL OR (delivered_at IS NULL AND integration_type IN ('slack', 'tool') AND undeliverable_at IS NULL)
"""
_ROWS = """
SELECT request_id, session_id::text, status, extract(epoch FROM accepted_at)::float8, model_calls, attempts,
       response_content, error_message FROM request_logs
"""
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


def collect(system: System, asked: Asked, disturbances: tuple[Disturbance, ...], lease_seconds: float) -> Records:
    """Everything that is known about the run."""
    accepted = tuple({one.request_id: one for one in asked.accepted}.values())
    with ThreadPoolExecutor(8) as pool:
        results = dict(zip((one.request_id for one in accepted), pool.map(_reader(system), accepted), strict=True))
    deliveries = call("GET", f"{system.platform.url}/_platform/deliveries").json()
    return Records(
        accepted=accepted,
        results=results,
        rows={row[0]: Row(*row) for row in system.database.query(_ROWS)},
        changes=tuple(Change(*row) for row in system.database.query(_CHANGES)),
        calls=read_calls(system.call_log),
        sent=tuple(_sent(deliveries)),
        disturbances=disturbances,
        ids_of_key={key: frozenset(ids) for key, ids in asked.ids_of_key.items()},
        lease_seconds=lease_seconds,
    )


def _reader(system: System) -> Any:
    def read(one: Accepted) -> Result:
        answer = call("GET", f"{system.platform.url}/api/v1/requests/{one.request_id}")
        if answer.status != 200:
            return Result(answer.status)
        body = answer.json()
        content = (body["response"] or {}).get("content")
        message = (body["error"] or {}).get("message")
        return Result(200, body["status"], content if body["status"] in FINISHED else None, message)

    return read


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


def _sent(deliveries: Iterable[dict[str, Any]]) -> Iterable[Sent]:
    for one in deliveries:
        request_id, body = one["request_id"], one["body"]
        if one["channel"] == "webhook":
            data = body["data"]
            text = data["content"] if data["error"] is None else data["error"]["message"]
            yield Sent("webhook", request_id, one["headers"].get("webhook-id"), text)
        else:
            metadata = body.get("metadata") or {}
            if metadata.get("event_type", _SLACK_ANSWER) == _SLACK_ANSWER:
                payload = metadata.get("event_payload") or {}
                key = f"{payload['request_id']}/{payload.get('part')}" if "request_id" in payload else None
                yield Sent("slack", request_id, key, body.get("text", ""))
