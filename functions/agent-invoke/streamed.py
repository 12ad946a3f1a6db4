"""Reading an answer that the Responses API streams: server-sent events, of any version."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from replies import failure

from common.errors import TurnRefused, Unavailable

_BLOCK_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_STATUS = re.compile(r"([45]\d\d): ")

_DONE = ("response.completed", "response.incomplete")
"""With either the response is there; an incomplete one (the token limit) is an answer without streaming too."""


def completed(pieces: Iterable[bytes], on_text: Callable[[str], None], model: str) -> object:
    """Give the response that the stream ends with; `on_text` is called with each piece of text before.

    Raises Unavailable when the stream fails in a way that may pass, or ends without a response, and TurnRefused when
    asking `model` again would not help.
    """
    item: object = None
    for event in _events(pieces):
        kind = event.get("type")
        if kind == "response.output_text.delta":
            delta = event.get("delta")
            if isinstance(delta, str) and delta:
                # A second message stands apart from the first, as it does in the whole answer.
                on_text(delta if item in (None, event.get("item_id")) else f"\n\n{delta}")
                item = event.get("item_id")
        elif kind in _DONE:
            return event.get("response")
        elif kind in ("response.failed", "error") or "error" in event:
            raise _failure(event, model)
    raise Unavailable("The agent service broke off its answer.")


def _events(pieces: Iterable[bytes]) -> Iterator[Mapping[str, object]]:
    """Parse server-sent events (HTML standard, section "Server-sent events"); those without a JSON object are left out.

    Raises json.JSONDecodeError for data that are no JSON.
    """
    rest = b""
    for piece in pieces:
        *blocks, rest = _BLOCK_END.split(rest + piece)
        for block in blocks:
            data = b"\n".join(line[5:].strip() for line in block.splitlines() if line.startswith(b"data:"))
            event = json.loads(data) if data and data != b"[DONE]" else None
            if isinstance(event, dict):
                yield event


def _failure(event: Mapping[str, object], model: str) -> Unavailable | TurnRefused:
    """Say what an error inside a stream means: the server had already answered 200, so its status is in the text."""
    response = event.get("response")
    error = event.get("error") or (response.get("error") if isinstance(response, dict) else None) or dict(event)
    message = str(error.get("message", "")) if isinstance(error, dict) else str(error)
    status = _STATUS.match(message)
    if status:
        return failure(int(status[1]), {}, message, model)
    # Without a status nothing says that it is for good, except a model that does not exist.
    return failure(404 if model in message and "not found" in message else 500, {}, message, model)
