"""The demo model over HTTP, as Llama Stack and the tests use it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.local.llama.demo_script import reply
from tests.agent.support import HTTP
from tests.parts.llama import DemoModel

SPECIALIST = {"role": "system", "content": "You are the laptop-refresh specialist."}
TRANSFER = {"type": "function", "function": {"name": "transfer_to_laptop_refresh", "parameters": {}}}


def complete(model: DemoModel, *said: str, **more: Any) -> Any:
    messages = [SPECIALIST, *({"role": "user", "content": text} for text in said)]
    body = {"model": "demo-model", "messages": messages, **more}
    return HTTP.request("POST", f"{model.url}/v1/chat/completions", json=body)


def test_it_lists_the_model_that_llama_stack_looks_for(demo_model: DemoModel) -> None:
    listed = HTTP.request("GET", f"{demo_model.url}/v1/models").json()

    assert [model["id"] for model in listed["data"]] == ["demo-model"]


def test_a_stream_gives_the_same_answer_as_one_piece(demo_model: DemoModel) -> None:
    whole = complete(demo_model, "My ThinkPad is slow").json()
    stream = complete(demo_model, "My ThinkPad is slow", stream=True, stream_options={"include_usage": True})

    events = [line[6:] for line in stream.data.decode().splitlines() if line]
    chunks = [json.loads(event) for event in events[:-1]]
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert events[-1] == "[DONE]"
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"] == whole["usage"]


def test_it_calls_a_transfer_tool_that_fits_the_topic_and_no_other(demo_model: DemoModel) -> None:
    fits = complete(demo_model, "I want to refresh my laptop", tools=[TRANSFER]).json()["choices"][0]
    other = complete(demo_model, "My badge is lost", tools=[TRANSFER]).json()["choices"][0]

    assert fits["finish_reason"] == "tool_calls"
    assert fits["message"]["tool_calls"][0]["function"]["name"] == "transfer_to_laptop_refresh"
    assert other["finish_reason"] == "stop"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": 5}', b'{"messages": [5]}'])
def test_what_is_no_request_is_a_400(demo_model: DemoModel, body: bytes) -> None:
    headers = {"content-type": "application/json"}

    assert HTTP.request("POST", f"{demo_model.url}/v1/chat/completions", body=body, headers=headers).status == 400
    assert demo_model.calls() == []


@pytest.mark.parametrize("settings", [{"delay_ms": -1}, {"delay_ms": "soon"}, {"status": 200}, {"fail_next": -1}, []])
def test_controls_that_make_no_sense_are_refused(demo_model: DemoModel, settings: object) -> None:
    assert HTTP.request("POST", f"{demo_model.url}/_control", json=settings).status == 400


def test_calls_are_remembered_with_their_times_and_failures_until_reset(demo_model: DemoModel) -> None:
    demo_model.control(fail_next=1, status=429)

    assert [complete(demo_model, "one").status, complete(demo_model, "two").status] == [429, 200]

    first, second = demo_model.calls()
    assert (first["last_user_message"], first["status"]) == ("one", 429)
    assert (second["last_user_message"], second["status"]) == ("two", 200)
    assert first["started"] <= first["ended"] <= second["started"] <= second["ended"]
    demo_model.reset()
    assert demo_model.calls() == []


def test_what_was_set_is_forgotten_at_a_reset(demo_model: DemoModel) -> None:
    """Regression: the status of a failure outlived it, and failed another test as it should not."""
    demo_model.control(fail_next=3, status=418, delay_ms=7, word_delay_ms=9)
    demo_model.reset()
    answer = HTTP.request("POST", f"{demo_model.url}/_control", json={}).json()
    assert answer == {"delay_ms": 0, "fail_next": 0, "status": 503}


def test_the_specialist_collects_what_it_needs_over_the_conversation() -> None:
    said = ["I want to refresh my laptop", "It is a MacBook Pro 14, three years old", "Please deliver it to my home"]

    texts = [reply([SPECIALIST, *({"role": "user", "content": text} for text in said[:n])], []).text for n in range(1, 4)]

    assert "the model of your laptop" in texts[0]
    assert "MacBook Pro 14" in texts[1]
    assert "whether to deliver" in texts[1]
    assert "the model" not in texts[1]
    assert "I will file the refresh request" in texts[2]
    assert "I want to refresh my laptop" in texts[2]


@pytest.mark.parametrize("question", ["What did I ask first?", "what was my first message", "Do you remember how I began?"])
def test_it_quotes_the_first_message_when_asked(question: str) -> None:
    said = ["Hello, my door is stuck", "It is door 5", question]

    assert "my door is stuck" in reply([{"role": "user", "content": text} for text in said], []).text
