"""An OpenAI-compatible server around the scripted demo model, with controls that tests use.

    python -m infra.local.llama.demo_model --port 8399

`/v1/models`, `/v1/chat/completions` (stream and not, tools, usage), `/health`. Controls, for tests on
loopback only: `POST /_control {"delay_ms", "fail_next", "status", "word_delay_ms", "say"}` makes it slow, makes
the next k calls fail, has it stream word by word, or answer with a text of yours; `GET /_control/calls` tells
every call with its start, first word and end (seconds, monotonic); `POST /_control/reset` forgets it all.
DEMO_MODEL_CALLS names a file that gets a line at the start and at the end of each call: it outlives the process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from infra.local.llama.demo_script import Reply, reply, text_of

MODEL = "demo-model"
"""The id it serves; Llama Stack lists it as `demo/demo-model` (provider/model)."""

CHARS_PER_TOKEN = 4
"""The usual estimate for English text; a scripted model has no tokenizer."""

FAIL_STATUS = 503
MAX_DELAY_MS = 600_000

KEPT_CALLS = 10_000
"""Calls that are remembered, newest last; the count goes on."""


@dataclass
class Call:
    """One chat completion that was asked for: what, and when. Times are seconds of one monotonic clock."""

    last_user_message: str
    agent: str
    messages: int
    temperature: float | None
    max_tokens: int | None
    started: float
    first_word: float | None = None
    ended: float | None = None
    status: int = 200


@dataclass
class State:
    """What the controls set, and the calls so far."""

    delay_ms: int
    word_delay_ms: int = 0
    say: str = ""
    fail_next: int = 0
    fail_status: int = FAIL_STATUS
    count: int = 0
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=KEPT_CALLS))
    file: BinaryIO | None = None

    def keep(self, call: Call) -> None:
        """Write the call as it stands now, in one line, which is in the kernel when this returns."""
        if self.file is not None:
            self.file.write(json.dumps(asdict(call)).encode() + b"\n")


STATE = web.AppKey("state", State)
INITIAL_DELAY = web.AppKey("initial_delay", int)


def make_app(delay_ms: int = 0, calls_file: str | None = None) -> web.Application:
    """Make the server's application; `delay_ms` is how long every completion takes at least."""
    app = web.Application(client_max_size=16 * 1024 * 1024)
    file = Path(calls_file).open("ab", buffering=0) if calls_file else None  # noqa: SIM115 - as long as the process
    app[STATE] = State(delay_ms=delay_ms, file=file)
    app[INITIAL_DELAY] = delay_ms
    app.router.add_get("/health", _health)
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_post("/_control", _control)
    app.router.add_get("/_control/calls", _calls)
    app.router.add_post("/_control/reset", _reset)
    return app


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _models(_: web.Request) -> web.Response:
    entry = {"id": MODEL, "object": "model", "created": 0, "owned_by": "demo"}
    return web.json_response({"object": "list", "data": [entry]})


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "demo_error", "code": status}}, status=status)


async def _chat(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    try:
        body = await request.json()
        messages, tools, call = _read(body)
    except (ValueError, TypeError, AttributeError):
        return _error(400, "the body is not a chat completion request")
    state.calls.append(call)
    state.count += 1
    state.keep(call)
    try:
        fails = state.fail_next > 0
        if fails:
            state.fail_next -= 1
        await asyncio.sleep(state.delay_ms / 1000)
        if fails:
            call.status = state.fail_status
            return _error(state.fail_status, "told to fail")
        if body.get("model") != MODEL:
            call.status = 404
            return _error(404, "no such model")
        answer = Reply(text=state.say) if state.say else reply(messages, tools)
        usage = _usage(messages, answer)
        if body.get("stream"):
            options = body.get("stream_options") or {}
            return await _stream(request, call, answer, usage if options.get("include_usage") else None)
        return web.json_response(_completion(answer, usage))
    finally:
        call.ended = time.monotonic()
        state.keep(call)


def _read(
    body: Mapping[str, object],
) -> tuple[Sequence[Mapping[str, object]], Sequence[Mapping[str, object]], Call]:
    messages, tools = body.get("messages"), body.get("tools") or []
    if not isinstance(messages, list) or not isinstance(tools, list):
        raise TypeError("messages and tools are lists")
    users = [text_of(m.get("content")) for m in messages if m.get("role") == "user"]
    system = [text_of(m.get("content")) for m in messages if m.get("role") == "system"]
    temperature, limit = body.get("temperature"), body.get("max_completion_tokens") or body.get("max_tokens")
    call = Call(
        last_user_message=users[-1] if users else "",
        agent=(system[0].splitlines() or [""])[0] if system else "",
        messages=len(messages),
        temperature=float(temperature) if isinstance(temperature, int | float) else None,
        max_tokens=limit if isinstance(limit, int) else None,
        started=time.monotonic(),
    )
    return messages, tools, call


def _usage(messages: Sequence[Mapping[str, object]], answer: Reply) -> dict[str, int]:
    prompt = sum(len(text_of(m.get("content"))) for m in messages) // CHARS_PER_TOKEN + 1
    written = answer.text + (answer.call.arguments if answer.call else "")
    completion = len(written) // CHARS_PER_TOKEN + 1
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _tool_calls(answer: Reply) -> list[dict[str, object]]:
    if answer.call is None:
        return []
    function = {"name": answer.call.name, "arguments": answer.call.arguments}
    return [{"index": 0, "id": f"call_{answer.call.name}", "type": "function", "function": function}]


def _completion(answer: Reply, usage: Mapping[str, int]) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": answer.text}
    if calls := _tool_calls(answer):
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return _envelope("chat.completion") | {"choices": [choice], "usage": dict(usage)}


def _envelope(kind: str) -> dict[str, object]:
    return {"id": "chatcmpl-demo", "object": kind, "created": int(time.time()), "model": MODEL}


async def _stream(request: web.Request, call: Call, answer: Reply, usage: Mapping[str, int] | None) -> web.StreamResponse:
    """Send the answer as server-sent events: some words a chunk, why it ended, and the usage if asked for."""
    delay = request.app[STATE].word_delay_ms / 1000
    deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in _pieces(answer.text, 1 if delay else 8)]
    calls = _tool_calls(answer)
    if calls:
        deltas.append({"tool_calls": calls})
    chunks: list[dict[str, object]] = [
        _envelope("chat.completion.chunk") | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    ending = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}
    chunks.append(_envelope("chat.completion.chunk") | {"choices": [ending]})
    if usage is not None:
        chunks.append(_envelope("chat.completion.chunk") | {"choices": [], "usage": dict(usage)})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    events = [json.dumps(chunk).encode() for chunk in chunks] + [b"[DONE]"]
    written = [b"data: " + event + b"\n\n" for event in events]
    await response.write(written.pop(0))
    while delay and len(written) > 1:
        call.first_word = call.first_word or time.monotonic()
        await response.write(written.pop(0))
        await asyncio.sleep(request.app[STATE].word_delay_ms / 1000)  # a test may change its mind in the middle
    await response.write(b"".join(written))
    await response.write_eof()
    return response


def _pieces(text: str, words: int) -> list[str]:
    """Cut a text into chunks of so many words that join to the same text."""
    split = text.split(" ")
    groups = [" ".join(split[i : i + words]) for i in range(0, len(split), words)]
    return [group if i == 0 else " " + group for i, group in enumerate(groups)] if text else []


async def _control(request: web.Request) -> web.Response:
    state = request.app[STATE]
    try:
        wanted = await request.json()
        delay = int(wanted.get("delay_ms", state.delay_ms))
        word_delay = int(wanted.get("word_delay_ms", state.word_delay_ms))
        fail_next, status = (
            int(wanted.get("fail_next", state.fail_next)),
            int(wanted.get("status", state.fail_status)),
        )
    except (ValueError, TypeError, AttributeError):
        return _error(400, "delay_ms, word_delay_ms, fail_next and status are whole numbers")
    if not 0 <= delay <= MAX_DELAY_MS or not 0 <= word_delay <= MAX_DELAY_MS or fail_next < 0 or not 400 <= status <= 599:
        return _error(400, "delay_ms, word_delay_ms, fail_next or status is out of range")
    state.word_delay_ms, state.say = word_delay, str(wanted.get("say", state.say))
    state.delay_ms, state.fail_next, state.fail_status = delay, fail_next, status
    return web.json_response({"delay_ms": delay, "fail_next": fail_next, "status": status})


async def _calls(request: web.Request) -> web.Response:
    state = request.app[STATE]
    return web.json_response({"count": state.count, "calls": [asdict(call) for call in state.calls]})


async def _reset(request: web.Request) -> web.Response:
    state = request.app[STATE]
    state.delay_ms, state.fail_next, state.count = request.app[INITIAL_DELAY], 0, 0
    state.word_delay_ms, state.say, state.fail_status = 0, "", FAIL_STATUS
    state.calls.clear()
    return web.json_response({"count": 0})


def main() -> None:
    """Serve on loopback until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="The scripted demo model, as an OpenAI-compatible server.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    delay_ms = int(os.environ.get("DEMO_MODEL_DELAY_MS", "0"))
    app = make_app(delay_ms, os.environ.get("DEMO_MODEL_CALLS"))
    app[STATE].word_delay_ms = int(os.environ.get("DEMO_MODEL_WORD_DELAY_MS", "0"))
    web.run_app(app, host=options.host, port=options.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
