"""What the front door says itself: JSON, and RFC 9457 problems in the same words as the functions'."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.web_request import BaseRequest

# The most of a request's body that the door holds in memory. The functions' own limit (413) is MAX_BODY_BYTES, below it.
BODY_LIMIT = 1024 * 1024


class BodyTooLarge(Exception):
    """The body is over the door's limit."""


def json_answer(document: Any, status: int = 200) -> web.Response:
    """Answer with a JSON document."""
    return web.Response(body=json.dumps(document).encode(), status=status, content_type="application/json")


def problem(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with a problem; `type` is made from the title as in common.problems (which would bring Flask along)."""
    document = {
        "type": "urn:self-service-agent:problem:" + title.lower().replace(" ", "-"),
        "title": title,
        "status": status,
        "detail": detail,
    }
    body = json.dumps(document).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/problem+json")


def too_large(limit: int) -> web.Response:
    """Answer 413."""
    return problem(413, "Content too large", f"The body is larger than {limit} bytes.")


async def read_body(request: BaseRequest, limit: int = BODY_LIMIT) -> bytes | None:
    """Read a request's body, None when it has none. Raises BodyTooLarge without holding more than `limit` bytes."""
    if not request.can_read_body:
        return None
    if (request.content_length or 0) > limit:
        raise BodyTooLarge
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it is no part of the response to come
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > limit:
            raise BodyTooLarge
        parts.append(part)
    return b"".join(parts)
