"""`agent trace`: a request's way, from the server for its owner, from the database for operators; text, JSON or a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.cli import show
from infra.cli.failures import Wrong

if TYPE_CHECKING:
    from infra.cli.session import Conversation

STDOUT = "-"


def trace(json: bool, request_id: str | None, html: str | None, conversation: Conversation | None) -> None:
    """Show the way of a request. Without a `conversation`, which asks the server, it is read from the database."""
    if json and html:
        raise Wrong("--json and --html are two forms of the same: choose one")
    if conversation is None:
        way = _from_database(request_id)
    else:
        way = conversation.whole_trace(request_id) if html else conversation.trace(request_id)
    if html:
        _write(way, html)
    elif json:
        show.document(way)
    else:
        show.trace(way)


def _from_database(request_id: str | None) -> dict[str, Any]:
    if request_id is None:
        raise Wrong("--database takes the request's id: which was the last one is known for your own requests only")
    try:
        from infra.cli import records  # only operators have a driver
    except ModuleNotFoundError as error:
        raise Wrong(f"--database needs {error.name}: it comes with the extra `database`") from None
    return records.from_environment(request_id)


def _write(way: dict[str, Any], html: str) -> None:
    from infra.cli.page import render

    text = render(way)
    if html == STDOUT:
        click.echo(text)
        return
    try:
        Path(html).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Wrong(f"{html} cannot be written: {error.strerror}") from None
    show.note(f"written to {html}")
