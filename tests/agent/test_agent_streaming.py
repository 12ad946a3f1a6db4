"""Answers that the model streams: the same as whole ones, told piece by piece, and what each break means."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from agents import Agents
from conversation import answer
from llama import Llama

from common.errors import TurnRefused, Unavailable
from tests.agent.support import Gateway
from tests.agent.test_agent_adapter import TRANSFER, ask
from tests.parts.llama import DemoModel

STREAM = "text/event-stream"
DELTA = "response.output_text.delta"


def events(*data: object, end: str = "\n\n") -> bytes:
    """Server-sent events as a Llama Stack server writes them."""
    return "".join(f"data: {one if isinstance(one, str) else json.dumps(one)}{end}" for one in data).encode()


def delta(text: str, item: str = "m1") -> dict[str, object]:
    return {"type": DELTA, "delta": text, "item_id": item}


def done(text: str | None, *more: dict[str, object], kind: str = "response.completed") -> dict[str, object]:
    message = [{"type": "message", "content": [{"type": "output_text", "text": text}]}] if text else []
    return {"type": kind, "response": {"id": "r", "output": [*message, *more]}}


CALL: dict[str, object] = {"type": "function_call", "name": "transfer_to_laptop_refresh", "call_id": "c", "arguments": "{}"}


class Heard:
    """Who listens: what it shows."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.taken_back: list[str] = []

    def write(self, text: str) -> None:
        self.pieces.append(text)

    def take_back(self) -> None:
        self.taken_back.append(self.text)
        self.pieces.clear()

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class TestAgainstLlamaStack:
    """The real server 0.2.12, whose model is the demo model."""

    def test_a_streamed_answer_is_the_whole_answer_in_pieces(self, llama: Llama, demo_model: DemoModel) -> None:
        demo_model.control(word_delay_ms=5)
        heard = Heard()

        streamed = ask(llama, on_text=heard.write)

        assert streamed == ask(llama)
        assert heard.text == streamed.text
        assert len(heard.pieces) > 5

    def test_a_function_call_tells_no_text(self, llama: Llama) -> None:
        heard = Heard()

        reply = ask(llama, "My laptop is old", tools=[TRANSFER], on_text=heard.write)

        assert [call.name for call in reply.calls] == ["transfer_to_laptop_refresh"]
        assert heard.pieces == []

    def test_an_unknown_model_is_refused_for_good(self, llama: Llama) -> None:
        with pytest.raises(TurnRefused) as refused:
            ask(llama, model="demo/none", on_text=Heard().write)

        assert refused.value.code == "model_not_found"

    def test_a_model_that_fails_may_work_later(self, llama: Llama, demo_model: DemoModel) -> None:
        demo_model.control(fail_next=3, status=503)

        with pytest.raises(Unavailable):
            ask(llama, on_text=Heard().write)
        assert ask(llama, on_text=Heard().write).text


class TestBehindAGateway:
    """Streams that a server of another version or a proxy may give."""

    @pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n"])
    def test_pieces_and_usage_are_read(self, gateway: Gateway, connect: Callable[..., Llama], end: str) -> None:
        final = done("One\u2028two.")
        final["response"]["usage"] = {"input_tokens": 7, "output_tokens": 3}  # type: ignore[index]
        other = {"type": "response.output_item.added", "item": {}}
        stream = events({"type": "response.created"}, other, delta("One\u2028"), delta("two."), final, "[DONE]", end=end)
        gateway.will_answer(200, b": hello" + end.encode() + stream, content_type=STREAM)
        heard = Heard()

        reply = ask(connect(gateway.url), on_text=heard.write)

        assert (reply.text, heard.pieces) == ("One\u2028two.", ["One\u2028", "two."])
        assert (reply.input_tokens, reply.output_tokens, reply.tokens_estimated) == (7, 3, False)
        assert gateway.seen[0][2]["stream"] is True

    def test_a_second_message_stands_apart(self, gateway: Gateway, connect: Callable[..., Llama]) -> None:
        gateway.will_answer(200, events(delta("A."), delta("B.", "m2"), delta("C.", "m2"), done("A.")), content_type=STREAM)
        heard = Heard()

        ask(connect(gateway.url), on_text=heard.write)

        assert heard.text == "A.\n\nB.C."

    def test_a_server_that_does_not_stream_is_read_whole(self, gateway: Gateway, connect: Callable[..., Llama]) -> None:
        gateway.will_answer(200, done("Hello.")["response"])
        heard = Heard()

        assert ask(connect(gateway.url), on_text=heard.write).text == "Hello."
        assert heard.pieces == []

    def test_an_answer_cut_by_the_token_limit_is_an_answer(self, gateway: Gateway, connect: Callable[..., Llama]) -> None:
        gateway.will_answer(200, events(done("As far as", kind="response.incomplete")), content_type=STREAM)

        assert ask(connect(gateway.url), on_text=Heard().write).text == "As far as"

    @pytest.mark.parametrize(
        "last",
        [
            pytest.param((), id="the end is missing"),
            pytest.param(("[DONE]",), id="done without an answer"),
            pytest.param(('{"type": ',), id="no JSON"),
            pytest.param(({"error": {"message": "500: Internal server error"}},), id="an error of 0.2"),
            pytest.param(({"error": {"message": "something"}},), id="an error without a status"),
            pytest.param(({"type": "error", "code": "server_error", "message": "no"},), id="an error of OpenAI"),
            pytest.param(({"type": "response.failed", "response": {"error": {"message": "no"}}},), id="failed"),
            pytest.param(({"type": "response.completed"},), id="completed without a response"),
            pytest.param((done(None),), id="completed and empty"),
        ],
    )
    def test_what_breaks_off_may_work_later(
        self, gateway: Gateway, connect: Callable[..., Llama], last: tuple[Any, ...]
    ) -> None:
        gateway.will_answer(200, events(delta("Half an"), *last), content_type=STREAM)

        with pytest.raises(Unavailable):
            ask(connect(gateway.url), on_text=Heard().write)

    @pytest.mark.parametrize(
        ("message", "code"),
        [
            ("400: Invalid value: Model 'demo/demo-model' not found", "model_not_found"),
            ("Model 'demo/demo-model' not found. Use another", "model_not_found"),
            ("400: Invalid value: too long", "agent_request_refused"),
            ("401: no", "agent_not_authorised"),
        ],
    )
    def test_what_can_never_work_is_refused(
        self, gateway: Gateway, connect: Callable[..., Llama], message: str, code: str
    ) -> None:
        gateway.will_answer(200, events({"error": {"message": message}}), content_type=STREAM)

        with pytest.raises(TurnRefused) as refused:
            ask(connect(gateway.url), on_text=Heard().write)

        assert refused.value.code == code


def test_what_an_agent_says_before_it_hands_over_is_taken_back(
    gateway: Gateway, connect: Callable[..., Llama], shipped: Agents
) -> None:
    gateway.will_answer(200, events(delta("Let me see."), done("Let me see.", CALL)), content_type=STREAM)
    gateway.will_answer(
        200, events(delta("Your laptop "), delta("is old."), done("Your laptop is old.")), content_type=STREAM
    )
    heard = Heard()

    said = answer(
        shipped,
        connect(gateway.url),
        agent_id="routing-agent",
        default_agent_id="routing-agent",
        history=[],
        content="my laptop",
        context={},
        listener=heard,
    )

    assert (said.agent_id, said.content, heard.text) == ("laptop-refresh", "Your laptop is old.", "Your laptop is old.")
    assert heard.taken_back == ["Let me see."]
