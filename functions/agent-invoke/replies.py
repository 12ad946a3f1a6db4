"""What comes back from the Responses API, of any version: an answer, or what a failure means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import TurnRefused, Unavailable

CHARS_PER_TOKEN = 4
"""The usual estimate for English text, where a server reports no usage (0.2 never does)."""

MAX_RETRY_AFTER = 300.0


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants called."""

    name: str
    arguments: Mapping[str, object]
    call_id: str


@dataclass(frozen=True)
class ModelReply:
    """One answer of a model: text, calls of function tools, or both.

    `tokens_estimated` says that the server reported no usage. `finish_reason` says why the model stopped, in OpenTelemetry's
    words: stop, length, content_filter or tool_call.
    """

    text: str
    calls: tuple[ToolCall, ...]
    input_tokens: int
    output_tokens: int
    tokens_estimated: bool = False
    finish_reason: str = "stop"


def failure(status: int, headers: Mapping[str, str], body: object, model: str) -> Unavailable | TurnRefused:
    """Say what an error answer to a call of `model` means: it may pass, or it never will."""
    detail = json.dumps(body, default=str)
    if status in (401, 403):
        sentence = "The assistant is not allowed to use its model service. Please tell your administrator."
        return TurnRefused("agent_not_authorised", sentence)
    # 0.2 says 400 "Invalid value: Model 'x' not found", later ones 404 "Model 'x' not found. Use …".
    if status in (400, 404) and model in detail and "not found" in detail:
        sentence = "The assistant is set up with a model that does not exist. Please tell your administrator."
        return TurnRefused("model_not_found", sentence)
    # A 404 that names no model is a route that is not there: a server of another version, or a proxy without one.
    if status in (404, 408, 409, 425, 429) or status >= 500:
        return Unavailable("The agent service cannot answer now.", retry_after=_retry_after(headers))
    sentence = "The assistant could not work with this request. Please try to put it in other words, or start anew."
    return TurnRefused("agent_request_refused", sentence)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After in seconds (RFC 9110, 10.2.3); its date form, rare between services, is not read."""
    value = headers.get("retry-after", "").strip()
    return min(float(value), MAX_RETRY_AFTER) if value.isdecimal() else None


def unreadable() -> Unavailable:
    """What an answer means that is no answer of the Responses API: it may be better next time."""
    return Unavailable("The agent service gave an answer that cannot be read.")


def read(body: object, request: Mapping[str, object]) -> ModelReply:
    """Take text, calls and usage out of the answer to `request`, as a JSON object.

    Raises Unavailable when it cannot be read, or holds neither text nor call.
    """
    output = body.get("output") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(output, list) or body.get("status") == "failed":
        raise unreadable()
    items = [item for item in output if isinstance(item, dict)]
    text = "\n\n".join(part for item in items if item.get("type") == "message" for part in _texts(item.get("content")))
    calls = tuple(_call(item) for item in items if item.get("type") == "function_call")
    if not text.strip() and not calls:
        raise Unavailable("The agent gave an empty answer.")
    usage = body.get("usage") or {}
    tokens = usage.get("input_tokens"), usage.get("output_tokens")
    if isinstance(tokens[0], int) and isinstance(tokens[1], int):
        return ModelReply(text, calls, tokens[0], tokens[1], finish_reason=_finish_reason(body, calls))
    sent = len(json.dumps([request["instructions"], request["input"], request.get("tools", [])], ensure_ascii=False))
    written = len(text) + sum(len(json.dumps(dict(call.arguments))) for call in calls)
    return ModelReply(
        text,
        calls,
        sent // CHARS_PER_TOKEN + 1,
        written // CHARS_PER_TOKEN + 1,
        tokens_estimated=True,
        finish_reason=_finish_reason(body, calls),
    )


def _finish_reason(body: Mapping[str, object], calls: tuple[ToolCall, ...]) -> str:
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    if isinstance(reason, str):
        return "length" if reason == "max_output_tokens" else reason
    return "tool_call" if calls else "stop"


def _texts(content: object) -> list[str]:
    """Give the texts of a message: a string, or parts (a model's refusal is an answer too)."""
    if isinstance(content, str):
        return [content]
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return [str(part.get("text") or part.get("refusal") or "") for part in parts]


def _call(item: Mapping[str, object]) -> ToolCall:
    """Read a function call; arguments that are no JSON object (a model wrote them) count as none."""
    try:
        arguments = json.loads(str(item.get("arguments") or "{}"))
    except json.JSONDecodeError:
        arguments = {}
    known = arguments if isinstance(arguments, dict) else {}
    return ToolCall(name=str(item.get("name", "")), arguments=known, call_id=str(item.get("call_id", "")))
