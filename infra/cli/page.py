"""One request's way as an HTML page: self-contained for a file, or with links for the local platform.

Everything in it that a person, a tool or a model wrote is escaped by Jinja; the page has no script of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from infra.cli import waterfall

HERE = Path(__file__).parent
_LONGEST = 64 * 1024  # characters of one payload that are shown
_FACTS = (
    ("integration_type", "Integration"),
    ("integration_key", "Tool"),
    ("user_id", "User"),
    ("agent_id", "Agent"),
    ("attempts", "Attempts at the turn"),
    ("model_calls", "Model calls"),
    ("created_at", "Accepted"),
    ("completed_at", "Answered"),
    ("delivered_at", "Delivered"),
    ("delivery_attempts", "Tries of the delivery"),
    ("delivery_reference", "Message at the channel"),
    ("delivery_error", "Why it was not delivered"),
    ("undeliverable_at", "Delivery given up"),
    ("session_id", "Session"),
    ("trace_id", "Trace"),
)
_SESSION_FACTS = (
    ("current_agent_id", "agent"),
    ("total_requests", "requests"),
    ("unfinished", "unfinished"),
    ("lease_until", "lease until"),
    ("expires_at", "expires"),
)


def render(way: Mapping[str, Any], *, platform: bool = False) -> str:
    """The page of a request.

    `way` is the document of GET /api/v1/requests/{id}/trace and, as far as they are known, question, answer, error, facts of
    the request and its session, and a broker's `events`, the stand-ins' `deliveries` and the processes' `logs`. With
    `platform` its style, its script and its links are those of the local platform's page.
    """
    return _environment().get_template("trace.html").render(_view(way), platform=platform, css=_css(), digest=_digest())


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": waterfall.duration, "clock": clock, "pretty": pretty, "kind": kind}
    return environment


@cache
def _css() -> str:
    return (HERE / "trace.css").read_text(encoding="utf-8")


@cache
def _digest() -> str:
    """The style's hash, by which the page's own policy allows it and nothing else."""
    return "sha256-" + base64.b64encode(hashlib.sha256(_css().encode()).digest()).decode()


def _view(way: Mapping[str, Any]) -> dict[str, Any]:
    events = way.get("events", [])
    recorded = waterfall.from_steps(way["steps"])
    beginning = way["steps"][0]["at"] if way["steps"] else (events[0]["received_at"] if events else None)
    hops = waterfall.from_events(events, beginning, way.get("now")) if beginning else []
    return {
        "way": way,
        "facts": [(label, _fact(way[name])) for name, label in _FACTS if way.get(name) not in (None, "", 0)],
        "session": _session(way.get("session")),
        "recorded": recorded,
        "hops": hops,
        "scale": waterfall.scale([*recorded, *hops]),
        "moving": any(row.kind == "open" for row in hops),
    }


def _session(session: Mapping[str, Any] | None) -> str:
    if session is None:
        return ""
    told = [f"{label} {_fact(session[name])}" for name, label in _SESSION_FACTS if session.get(name) is not None]
    return ", ".join([str(session["status"]), *told])


def _fact(value: Any) -> str:
    text = str(value)
    return clock(text, date=True) if len(text) > 18 and text[4:5] == "-" and text.endswith("Z") else text


def kind(status: str) -> str:
    """The colour of a request's status."""
    return {"completed": "ok", "failed": "bad", "stopped": "bad", "unrecorded": "bad"}.get(status, "open")


def clock(text: str | None, *, date: bool = False) -> str:
    """A time as people read it, in UTC, to the millisecond."""
    if text is None:
        return ""
    at = datetime.fromisoformat(text).astimezone(UTC)
    time = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
    return f"{at:%Y-%m-%d} {time} UTC" if date else time


def pretty(value: Any) -> str:
    """A payload as it is read: JSON on several lines, not more of it than a page bears."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        with suppress(ValueError):
            value = json.loads(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n… {len(text) - _LONGEST} more characters"
