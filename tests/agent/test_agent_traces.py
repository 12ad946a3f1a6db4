"""What a trace tells of a call of the model that a server answers as told, and what the server is told of the trace."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.agent.support import Gateway
from tests.parts.collector import Collector, Span, traceparent
from tests.parts.events import request_created
from tests.parts.functions import Event, Function
from tests.parts.postgres import Postgres


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.close()


@pytest.fixture
def ask(
    gateway: Gateway, collector: Collector, postgres: Postgres, serve: Callable[..., Function]
) -> Callable[[dict[str, Any]], list[Span]]:
    """Run one turn of a tool's request, in which the server answers with these fields; the turn's spans."""
    settings = {**postgres.environment(), **collector.environment, "LLAMA_STACK_URL": gateway.url}
    upsert, agent = (serve(name, settings) for name in ("session-upsert", "agent-invoke"))

    def run(answer: dict[str, Any]) -> list[Span]:
        trace = uuid.uuid4().hex
        message = {"type": "message", "content": [{"type": "output_text", "text": "As far as"}]}
        gateway.will_answer(200, {"output": [message], **answer})
        created = request_created(integration_type="tool", integration_key="snow", traceparent=traceparent(trace))
        agent.post_event(Event.of(upsert.post_event(created)))
        spans = collector.wait(
            trace, lambda found: ("agent-invoke", "CONSUMER") in {(one.service, one.kind) for one in found}
        )
        return [span for span in spans if span.service == "agent-invoke"]

    return run


def test_usage_and_the_reason_of_the_end_are_told(ask: Callable[[dict[str, Any]], list[Span]]) -> None:
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    [call] = [span for span in ask({**cut, "usage": {"input_tokens": 7, "output_tokens": 3}}) if "chat" in span.name]
    assert call.attributes["gen_ai.response.finish_reasons"] == ["length"]
    assert call.attributes["gen_ai.usage.input_tokens"] == 7
    assert call.attributes["gen_ai.usage.output_tokens"] == 3
    assert "self_service_agent.tokens_estimated" not in call.attributes
    assert call.attributes["gen_ai.request.stream"] is False


def test_tokens_that_were_estimated_are_told_as_such(ask: Callable[[dict[str, Any]], list[Span]]) -> None:
    [call] = [span for span in ask({}) if "chat" in span.name]
    assert call.attributes["self_service_agent.tokens_estimated"] is True
    assert call.attributes["gen_ai.response.finish_reasons"] == ["stop"]


def test_llama_stack_is_told_which_span_calls_it(gateway: Gateway, ask: Callable[[dict[str, Any]], list[Span]]) -> None:
    [call] = [span for span in ask({}) if "chat" in span.name]
    [(_, headers, _)] = gateway.seen
    assert headers["traceparent"] == traceparent(call.trace, call.id)
