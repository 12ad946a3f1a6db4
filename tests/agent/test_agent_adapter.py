"""The adapter around llama-stack-client: what it sends, and what each failure means."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama import Llama
from replies import ModelReply

from common.errors import TurnRefused, Unavailable
from tests.agent.support import FUNCTION, HTTP, ROOT, Gateway
from tests.parts.llama import DemoModel
from tests.parts.net import free_port

TRANSFER = {
    "type": "function",
    "name": "transfer_to_laptop_refresh",
    "description": "Hand over.",
    "parameters": {"type": "object", "properties": {"reason": {"type": "string"}}, "required": []},
}
ANSWER = {"id": "r", "output": [{"type": "message", "role": "assistant", "content": "Hello."}]}


def ask(llama: Llama, content: str = "Hello", **more: Any) -> ModelReply:
    given: dict[str, Any] = {"model": "demo/demo-model", "instructions": "You help."} | more
    return llama.respond(input=[{"role": "user", "content": content}], **given)


def run_python(code: str) -> str:
    """Run Python in a process of its own that sees the function's modules."""
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(FUNCTION)!r}]\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestAgainstLlamaStack:
    """The real server 0.2.12, whose model is the demo model."""

    def test_an_answer_has_text_and_token_counts_that_say_they_are_estimates(self, llama: Llama) -> None:
        reply = ask(llama, "Who are you?")

        assert "IT self-service desk" in reply.text
        assert reply.calls == ()
        assert reply.tokens_estimated
        assert 5 < reply.output_tokens < 200

    def test_a_function_call_comes_with_its_arguments(self, llama: Llama) -> None:
        reply = ask(llama, "My laptop is old", tools=[TRANSFER], temperature=0.5)

        (call,) = reply.calls
        assert call.name == "transfer_to_laptop_refresh"
        assert call.arguments == {"reason": "My laptop is old"}

    def test_nothing_is_stored_at_the_server(self, llama: Llama, llama_stack: str) -> None:
        ask(llama)

        assert HTTP.request("GET", f"{llama_stack}/v1/openai/v1/responses").json()["data"] == []

    def test_an_unknown_model_is_refused_for_good_in_words_for_people(self, llama: Llama) -> None:
        with pytest.raises(TurnRefused) as refused:
            ask(llama, model="demo/none")

        assert refused.value.code == "model_not_found"
        assert "demo/none" not in refused.value.sentence

    def test_a_request_that_the_server_cannot_accept_is_refused_for_good(self, llama: Llama) -> None:
        with pytest.raises(TurnRefused) as refused:
            ask(llama, tools=[{"type": "no-such-tool"}])

        assert refused.value.code == "agent_request_refused"

    def test_a_model_that_answers_503_may_work_later(self, llama: Llama, demo_model: DemoModel) -> None:
        demo_model.control(fail_next=3, status=503)  # the server itself tries three times

        with pytest.raises(Unavailable):
            ask(llama)
        assert len(demo_model.calls()) == 3
        assert ask(llama).text

    def test_a_slow_model_is_given_up_after_the_timeout(
        self, llama_stack: str, demo_model: DemoModel, connect: Callable[..., Llama]
    ) -> None:
        client = connect(llama_stack)
        ask(client)
        demo_model.control(delay_ms=3000)
        started = time.monotonic()

        with pytest.raises(Unavailable, match="in time"):
            ask(client, timeout=0.5)

        assert time.monotonic() - started < 2
        demo_model.control(delay_ms=0)
        assert ask(client).text

    def test_calls_of_many_threads_run_at_the_same_time(self, llama: Llama, demo_model: DemoModel) -> None:
        demo_model.control(delay_ms=500)

        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda n: ask(llama, f"message number {n}").text, range(8)))

        assert all(f"message number {n}" in text for n, text in enumerate(replies))
        calls = demo_model.calls()
        assert max(call["started"] for call in calls) < min(call["ended"] for call in calls)


class TestHealth:
    def test_a_server_that_is_up_passes_the_check(self, llama: Llama) -> None:
        llama.check()

    def test_a_server_that_is_down_fails_it_without_waiting(self, connect: Callable[..., Llama]) -> None:
        with pytest.raises(Unavailable):
            connect(f"http://127.0.0.1:{free_port()}").check()

    def test_a_server_that_never_answers_fails_it_within_three_seconds(self, connect: Callable[..., Llama]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            started = time.monotonic()
            with pytest.raises(Unavailable):
                connect(f"http://127.0.0.1:{silent.getsockname()[1]}").check()

        assert time.monotonic() - started < 3


class TestWithoutAServer:
    def test_a_server_that_is_down_is_unavailable_at_once(self, connect: Callable[..., Llama]) -> None:
        client = connect(f"http://127.0.0.1:{free_port()}")
        with pytest.raises(Unavailable):
            ask(client)
        started = time.monotonic()

        with pytest.raises(Unavailable, match="reached"):
            ask(client)

        assert time.monotonic() - started < 2

    def test_a_server_that_never_answers_is_unavailable_after_the_timeout(self, connect: Callable[..., Llama]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            client = connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=5)
            client.start()
            with pytest.raises(Unavailable):
                ask(client, timeout=0.2)
            started = time.monotonic()

            with pytest.raises(Unavailable):
                ask(client, timeout=0.5)

        assert time.monotonic() - started < 2


class TestBehindAGateway:
    """Answers that a server of another version or a proxy may give."""

    @pytest.mark.parametrize(
        ("status", "body", "code"),
        [
            (401, {"detail": "no"}, "agent_not_authorised"),
            (403, {"detail": "no"}, "agent_not_authorised"),
            (404, {"detail": "Model 'demo/demo-model' not found. Use 'x'"}, "model_not_found"),
            (400, {"detail": "Invalid value: Model 'demo/demo-model' not found"}, "model_not_found"),
            (400, {"detail": "secret details"}, "agent_request_refused"),
            (413, {"detail": "too long"}, "agent_request_refused"),
            (422, {"detail": "wrong"}, "agent_request_refused"),
        ],
    )
    def test_what_can_never_work_is_refused(
        self, gateway: Gateway, connect: Callable[..., Llama], status: int, body: object, code: str
    ) -> None:
        gateway.will_answer(status, body)

        with pytest.raises(TurnRefused) as refused:
            ask(connect(gateway.url))

        assert refused.value.code == code
        assert "secret" not in refused.value.sentence
        assert len(gateway.seen) == 1

    @pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 504])
    def test_what_may_pass_is_unavailable_and_not_repeated_by_us(
        self, gateway: Gateway, connect: Callable[..., Llama], status: int
    ) -> None:
        gateway.will_answer(status, {"detail": "Not Found"})

        with pytest.raises(Unavailable) as unavailable:
            ask(connect(gateway.url))

        assert unavailable.value.retry_after == 1.0
        assert len(gateway.seen) == 1

    @pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("9999", 300.0), ("soon", 1.0)])
    def test_retry_after_is_passed_on(
        self, gateway: Gateway, connect: Callable[..., Llama], header: str, seconds: float
    ) -> None:
        gateway.will_answer(429, {}, retry_after=header)

        with pytest.raises(Unavailable) as unavailable:
            ask(connect(gateway.url))

        assert unavailable.value.retry_after == seconds

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (b"<html>hello</html>", {"content_type": "text/html"}),
            (b'{"output": [', {}),
            ([], {}),
            ({"id": "r"}, {}),
            ({"id": "r", "output": []}, {}),
            ({"id": "r", "output": [{"type": "message", "content": ""}]}, {}),
            ({"id": "r", "output": [{"type": "mcp_list_tools", "tools": []}]}, {}),
            ({"id": "r", "status": "failed", "output": ANSWER["output"]}, {}),
        ],
    )
    def test_an_answer_without_text_or_call_may_be_better_next_time(
        self, gateway: Gateway, connect: Callable[..., Llama], body: object, headers: dict[str, str]
    ) -> None:
        gateway.will_answer(200, body, **headers)

        with pytest.raises(Unavailable):
            ask(connect(gateway.url))

    def test_a_newer_server_is_asked_at_its_own_path_and_a_change_of_server_is_noticed(
        self, gateway: Gateway, connect: Callable[..., Llama]
    ) -> None:
        client = connect(gateway.url, api_key="key-1")
        gateway.old_path = False
        gateway.will_answer(200, ANSWER)
        gateway.will_answer(404, {"detail": "Not Found"})
        gateway.will_answer(200, ANSWER)

        assert ask(client, top_p=0.5, max_tokens=9).text == "Hello."
        gateway.old_path = True
        with pytest.raises(Unavailable):
            ask(client)
        assert ask(client).text == "Hello."

        assert [path for path, _, _ in gateway.seen] == ["/v1/responses"] * 2 + ["/v1/openai/v1/responses"]
        _, headers, body = gateway.seen[0]
        assert headers["authorization"] == "Bearer key-1"
        assert "x-llamastack-client-version" not in headers
        assert (body["store"], body["max_output_tokens"], body["top_p"]) == (False, 9, 0.5)

    def test_a_base_url_may_have_a_path(self, gateway: Gateway, connect: Callable[..., Llama]) -> None:
        gateway.old_path = False
        gateway.will_answer(200, ANSWER)

        ask(connect(f"{gateway.url}/llama/"))

        assert gateway.seen[0][0] == "/llama/v1/responses"


class TestImport:
    """The heavy import: off the serving path, and without its side effects."""

    def test_importing_and_starting_the_adapter_does_not_wait_for_the_client(self) -> None:
        heavy = run_python(
            "import conversation, llama\nprint([m for m in ('llama_stack_client', 'httpx', 'rich') if m in sys.modules])"
        )

        assert heavy == "[]"

    def test_the_client_leaves_logging_as_it_was(self) -> None:
        root = run_python(
            "import logging, llama\nfrom common.errors import Unavailable\n"
            "l = llama.Llama('http://127.0.0.1:9', None, 30)\n"
            "try:\n    l.respond(model='m', instructions='', input=[])\n"
            "except Unavailable:\n    pass\n"
            "l.close()\n"
            "print('llama_stack_client' in sys.modules, logging.getLogger().handlers, logging.getLogger().level)"
        )

        assert root == "True [] 30"

    def test_calls_wait_for_the_import_and_closing_during_it_is_harmless(
        self, gateway: Gateway, connect: Callable[..., Llama]
    ) -> None:
        client = connect(gateway.url)
        for _ in range(4):
            gateway.will_answer(200, ANSWER)
        texts: list[str] = []

        callers = [threading.Thread(target=lambda: texts.append(ask(client).text)) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(30)

        assert texts == ["Hello."] * 4
        assert run_python("import llama\nl = llama.Llama('http://x', None, 1)\nl.start()\nl.close()\nprint('ok')") == "ok"
