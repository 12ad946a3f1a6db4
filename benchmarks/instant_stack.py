"""An endpoint that speaks Llama Stack's Responses API and answers at once: what is left is the cost of everything else.

python -m benchmarks.instant_stack PORT
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from aiohttp import web

_TEXT = "You can refresh your laptop after three years; which one do you have?"


def _response(model: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": _TEXT, "annotations": []}]
    message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": content}
    return {
        "id": "r1",
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        "status": "completed",
        "parallel_tool_calls": False,
        "store": False,
        "temperature": 0.1,
        "text": {"format": {"type": "text"}},
        "output": [message],
        "usage": {"input_tokens": 20, "output_tokens": 12, "total_tokens": 32},
    }


async def _respond(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    response = _response(str(body["model"]))
    if not body.get("stream"):
        return web.json_response(response)
    stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await stream.prepare(request)
    delta = {"type": "response.output_text.delta", "item_id": "m1", "output_index": 0, "content_index": 0, "delta": _TEXT}
    for event in (delta, {"type": "response.completed", "response": response}):
        await stream.write(f"data: {json.dumps(event)}\n\n".encode())
    await stream.write_eof()
    return stream


async def _ok(_request: web.Request) -> web.Response:
    return web.json_response({"status": "OK", "data": []})


def app() -> web.Application:
    """The endpoint, as a server 0.2.12 has it."""
    application = web.Application()
    application.router.add_post("/v1/openai/v1/responses", _respond)
    application.router.add_get("/v1/openai/v1/responses", _ok)
    application.router.add_get("/v1/health", _ok)
    return application


if __name__ == "__main__":
    web.run_app(app(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
