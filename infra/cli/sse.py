"""Server-sent events out of bytes (HTML standard, 9.2.6), as far as the server uses them."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One event: its id, its name, its data (JSON)."""

    id: str
    name: str
    data: Any


def parse(pieces: Iterable[bytes]) -> Iterator[Event]:
    """Each whole event in a stream of bytes cut anywhere; an event that the end cuts off does not count."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    for piece in pieces:
        rest = (rest + decoder.decode(piece)).replace("\r\n", "\n")
        *blocks, rest = rest.split("\n\n")
        for block in blocks:
            event = _event(block)
            if event is not None:
                yield event


def _event(block: str) -> Event | None:
    fields = {"id": "", "event": "message"}
    data = []
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name in fields:
            fields[name] = value
    if not data:
        return None
    try:
        return Event(fields["id"], fields["event"], json.loads("\n".join(data)))
    except ValueError:
        return None
