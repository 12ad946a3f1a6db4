"""An endpoint that speaks Llama Stack's Responses API and answers at once: what is left is the cost of everything else.

python -m benchmarks.instant_stack PORT [--delay SECONDS] [--pieces N --every SECONDS]

With --delay it answers after that time. With --pieces a streamed answer comes in so many pieces, one every so many seconds;
each says when it was sent (seconds since 1970).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

from aiohttp import web

_TEXT = "You can refresh your laptop after three years; which one do you have?"


_OPTIONS = web.AppKey("options", argparse.Namespace)


def _response(model: str, text: str = _TEXT) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
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
    options = request.app[_OPTIONS]
    if options.delay:
        await asyncio.sleep(options.delay)
    if not body.get("stream"):
        return web.json_response(_response(str(body["model"])))
    stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await stream.prepare(request)
    text = ""
    for number in range(options.pieces):
        piece = _TEXT if options.pieces == 1 else f"{time.time():.6f} "
        text += piece
        await stream.write(_event({"type": "response.output_text.delta", "item_id": "m1", "delta": piece}))
        if number < options.pieces - 1:
            await asyncio.sleep(options.every)
    await stream.write(_event({"type": "response.completed", "response": _response(str(body["model"]), text)}))
    await stream.write_eof()
    return stream


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


async def _ok(_request: web.Request) -> web.Response:
    return web.json_response({"status": "OK", "data": []})


def app(options: argparse.Namespace) -> web.Application:
    """The endpoint, as a server 0.2.12 has it."""
    application = web.Application()
    application[_OPTIONS] = options
    application.router.add_post("/v1/openai/v1/responses", _respond)
    application.router.add_get("/v1/openai/v1/responses", _ok)
    application.router.add_get("/v1/health", _ok)
    return application


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instant_stack")
    parser.add_argument("port", type=int)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--pieces", type=int, default=1)
    parser.add_argument("--every", type=float, default=0.3)
    return parser.parse_args()


if __name__ == "__main__":
    given = _options()
    web.run_app(app(given), host="127.0.0.1", port=given.port, access_log=None, print=None)
