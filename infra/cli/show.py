"""What a person or a program is shown. On a terminal answers are rendered Markdown; into a pipe they go as they are."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

Document = Mapping[str, Any]
_TRACE_HEAD = {
    "request": "request_id",
    "session": "session_id",
    "trace": "trace_id",
    "status": "status",
    "user": "user_id",
    "agent": "agent_id",
}
_BAR_WIDTH = 24  # columns
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def clean(text: str) -> str:
    """Text that may be shown on a terminal: without the control characters that move cursors and rename windows."""
    return text.translate(_CONTROLS)


def document(value: Document) -> None:
    """One JSON object, in one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def answer(text: str) -> None:
    """The agent's answer, on standard output."""
    if not sys.stdout.isatty():
        click.echo(text)
        return
    from rich.console import Console  # only who looks at a terminal pays for it
    from rich.markdown import Markdown

    # Addresses are shown, not hidden behind a link's words: the reader sees where a link of the model's leads.
    Console().print(Markdown(clean(text), hyperlinks=False))


def note(text: str) -> None:
    """A line beside the answer, for a person: on standard error, and only if that is a terminal."""
    if sys.stderr.isatty():
        click.echo(click.style(clean(text), dim=True), err=True)


def complain(text: str) -> None:
    """A line that says what is wrong, on standard error."""
    click.echo(f"agent: {clean(text)}", err=True)


def outcome(request: Document) -> str:
    """A request in one line: its state, its agent, its time."""
    parts = [request["status"], request["agent_id"], seconds(request["processing_time_ms"])]
    return " · ".join(str(part) for part in parts if part)


def history(session: Document) -> None:
    """A conversation, the oldest message first."""
    for message in session["messages"]:
        is_person = message["role"] == "user"
        name = session["user_id"] if is_person else message.get("agent_id") or "agent"
        _heading(name, message["created_at"], "cyan" if is_person else "green")
        error = message.get("error")
        if error:
            click.echo(f"({clean(error['message'])})\n")
        elif is_person:
            click.echo(_shown(message["content"]) + "\n")
        else:
            answer(message["content"] or "")
            click.echo()


def trace(found: Document) -> None:
    """A request's way through the functions, a line a step; on a terminal with a bar for the time since the step before."""
    for name, key in _TRACE_HEAD.items():
        if found.get(key):
            click.echo(clean(f"{name:<8}{found[key]}"))
    if found.get("error"):
        click.echo(clean(f"error   {found['error']['code']}: {found['error']['message']}"))
    if found.get("session"):
        session = found["session"]
        lease = f"lease until {session['lease_until']}" if session["lease_until"] else "no lease"
        click.echo(clean(f"now     its session is {session['status']}, {session['unfinished']} unfinished, {lease}"))
    steps = found["steps"]
    width = max((len(step["function"]) for step in steps), default=0)
    whole = max((step["after_ms"] for step in steps if step["after_ms"] is not None), default=0)
    last = 0
    for step in steps:
        after = step["after_ms"]
        when = "not yet" if after is None else f"+{after} ms"
        told = ", ".join(
            f"{name.replace('_', ' ')} {value}" for name, value in step["detail"].items() if value not in (None, "")
        )
        bar = _bar(last, last if after is None else after, whole) if sys.stdout.isatty() else ""
        click.echo(clean(f"{when:>10}  {bar}{step['function']:<{width}}  {step['step']}{'  ' + told if told else ''}"))
        last = max(last, after or 0)
    for letter in found["dead_letters"]:
        number = f" {letter['id']}" if "id" in letter else ""
        told = f"{letter['type']}, code {letter['code'] or 'none'}, {letter['seen']} times, {letter['at']}"
        click.echo(clean(f"dead letter{number}: {told}"))
    note("Times are those of the tables: a stretch between two of them holds the broker's way, waiting, and every try.")


def _bar(start: int, end: int, whole: int) -> str:
    """A stretch of the whole time, on a scale of some columns."""
    if whole <= 0:
        return ""
    first, last = (min(_BAR_WIDTH - 1, _BAR_WIDTH * at // whole) for at in (min(start, end), end))
    return "·" * first + "█" * (last - first + 1) + "·" * (_BAR_WIDTH - 1 - last) + "  "


def seconds(milliseconds: int | None) -> str | None:
    """A duration for people."""
    return None if milliseconds is None else f"{milliseconds / 1000:.1f} s"


def _heading(name: str, at: str, colour: str) -> None:
    when = datetime.fromisoformat(at).astimezone()
    click.echo(click.style(clean(name), fg=colour, bold=True) + click.style(f" · {when:%d %b %H:%M:%S}", dim=True))


def _shown(text: str) -> str:
    return clean(text) if sys.stdout.isatty() else text
