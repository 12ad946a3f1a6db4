"""Back-pressure on the real parts: a full queue says so, model calls are bounded, one slow destination delays no other."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from typing import Any

import pytest

from tests.functional.response_dispatch.support import response_ready
from tests.parts.events import PREFIX, request_created
from tests.parts.functions import Event, Function
from tests.parts.llama import DemoModel
from tests.parts.net import Answer, problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes ok!").decode()  # pragma: allowlist secret


@pytest.fixture(scope="module")
def upsert(postgres_server: Postgres) -> Iterator[Function]:
    function = Function("session-upsert", postgres_server.environment())
    yield function
    function.close()


# A session's queue


def test_the_message_beyond_the_queue_is_refused_with_a_sentence(upsert: Function, postgres: Postgres) -> None:
    postgres.query("UPDATE integration_configs SET queue_limit = 3 WHERE integration_type = 'web'")
    for number in range(3):
        assert Event.of(upsert.post_event(request_created(request_id=f"r{number}"))).attribute("id") == f"r{number}.session"
    refused = Event.of(upsert.post_event(request_created(request_id="r3")))
    assert refused.attribute("type") == PREFIX + "agent.response-ready"
    assert refused.attribute("id") == "r3.failed"
    data = refused.data()
    assert (data["status"], data["error"]["code"]) == ("failed", "queue_full")
    assert data["error"]["message"].endswith(".")
    assert postgres.query("SELECT status, error_code FROM request_logs WHERE request_id = 'r3'") == [
        ("failed", "queue_full")
    ]
    assert postgres.query("SELECT total_requests FROM request_sessions") == [(3,)]
    assert 'requests_refused_total{code="queue_full",integration="web"} 1.0' in upsert.get("/metrics").body.decode()


def test_a_refusal_stays_a_refusal_and_the_queue_goes_on(upsert: Function, postgres: Postgres) -> None:
    postgres.query("UPDATE integration_configs SET queue_limit = 1 WHERE integration_type = 'web'")
    first, refused = request_created(request_id="r1"), request_created(request_id="r2")
    reply = Event.of(upsert.post_event(first))
    refusal = Event.of(upsert.post_event(refused))
    postgres.query("UPDATE request_logs SET status = 'completed', completed_at = now() WHERE request_id = 'r1'")
    assert Event.of(upsert.post_event(refused)) == refusal
    assert Event.of(upsert.post_event(first)) == reply
    assert Event.of(upsert.post_event(request_created(request_id="r3"))).attribute("id") == "r3.session"


def test_twenty_at_once_never_make_the_queue_longer_than_its_limit(upsert: Function, postgres: Postgres) -> None:
    postgres.query("UPDATE integration_configs SET queue_limit = 5 WHERE integration_type = 'web'")
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(upsert.post_event, [request_created() for _ in range(20)]))
    kinds = [Event.of(reply).attribute("id").rpartition(".")[2] for reply in replies]
    assert (kinds.count("session"), kinds.count("failed")) == (5, 15)


def test_another_conversation_has_a_queue_of_its_own_and_a_tool_its_own_limit(upsert: Function, postgres: Postgres) -> None:
    postgres.query("UPDATE integration_configs SET queue_limit = 1")
    postgres.query(
        "INSERT INTO integration_configs (integration_type, integration_key, queue_limit) VALUES ('tool', 'big', 2)"
    )

    def kind(**changes: Any) -> str:
        return Event.of(upsert.post_event(request_created(**changes))).attribute("id").rpartition(".")[2]

    assert [kind(conversation_key="c1"), kind(conversation_key="c1")] == ["session", "failed"]
    assert kind(conversation_key="c2") == "session"
    big = {"integration_type": "tool", "integration_key": "big", "conversation_key": "c3"}
    assert [kind(**big), kind(**big), kind(**big)] == ["session", "session", "failed"]


# Model calls


def test_at_most_so_many_model_calls_run_at_once_and_a_turn_beyond_holds_no_lease(
    upsert: Function, postgres: Postgres, serve: Callable[..., Function], llama_stack: str, demo_model: DemoModel
) -> None:
    agent = serve("agent-invoke", {**postgres.environment(), "LLAMA_STACK_URL": llama_stack, "AGENT_CONCURRENCY": "2"})
    ready = [
        Event.of(upsert.post_event(request_created(request_id=f"r{n}", conversation_key=f"c{n}", content="A printer?")))
        for n in range(4)
    ]
    demo_model.control(delay_ms=3000)
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(agent.post_event, one) for one in ready]
        demo_model.wait_for_calls(2)
        beyond = first_of(answers, 2)
        for one in beyond:
            problem(one.result(), 503)
            assert one.result().headers["retry-after"] == "1"
        assert len(demo_model.calls()) == 2
        leases = postgres.query("SELECT count(*) FROM request_sessions WHERE lease_owner IS NOT NULL")
        assert leases == [(2,)]
        assert sorted(one.result(20).status for one in answers) == [200, 200, 503, 503]
    demo_model.control(delay_ms=0)
    assert {agent.post_event(one).status for one in ready} == {200}
    assert postgres.query("SELECT DISTINCT attempts, model_calls FROM request_logs") == [(1, 1)]
    assert "self_service_agent_turns_held_off_total 2.0" in agent.get("/metrics").body.decode()


def first_of(answers: list[Future[Answer]], count: int) -> list[Future[Answer]]:
    """The first so many that are there."""
    return list(islice(as_completed(answers, timeout=20), count))


def test_a_turn_that_frees_its_place_lets_the_next_one_in_at_once(
    upsert: Function, postgres: Postgres, serve: Callable[..., Function], llama_stack: str, demo_model: DemoModel
) -> None:
    agent = serve("agent-invoke", {**postgres.environment(), "LLAMA_STACK_URL": llama_stack, "AGENT_CONCURRENCY": "1"})
    ready = [
        Event.of(upsert.post_event(request_created(request_id=f"r{n}", conversation_key=f"c{n}", content="A printer?")))
        for n in range(4)
    ]
    assert agent.post_event(ready.pop()).status == 200  # the first call waits for the client's import
    demo_model.control(delay_ms=100)
    with ThreadPoolExecutor() as pool:
        assert {answer.status for answer in pool.map(agent.post_event, ready)} == {200}
    calls = sorted(demo_model.calls(), key=lambda call: call["started"])
    assert all(before["ended"] <= after["started"] for before, after in pairwise(calls))


# Destinations


class Hanging:
    """A webhook that takes connections and requests and answers only when let go."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.let_go = threading.Event()
        hanging = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", "0")))
                hanging.arrived.release()
                hanging.let_go.wait(30)
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing to say."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    one = Hanging()
    yield one
    one.close()


@pytest.fixture
def dispatch(postgres: Postgres, recorder: Recorder, hanging: Hanging, serve: Callable[..., Function]) -> Function:
    """With 8 threads: two sends to one host at once. The tool `dead` has a webhook that hangs, `live` one that works."""
    recorder.clear()
    recorder.status = 204
    for tool, url in {"dead": hanging.url, "live": recorder.url}.items():
        postgres.query(
            "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', %s, %s)",
            tool,
            json.dumps({"webhook_url": url, "secret_ref": tool}),
        )
    return serve(
        "response-dispatch",
        {
            **postgres.environment(),
            "THREADS": "8",
            "WEBHOOK_SECRETS": json.dumps({"dead": SECRET, "live": SECRET}),
            "WEBHOOK_URLS_ALLOWED": f"{hanging.url},{recorder.url}",
        },
    )


def answered(postgres: Postgres, request_id: str, tool: str) -> Event:
    """A finished request of a tool; its response-ready event."""
    normalized = {"conversation_key": "c", "accepted_at": "2026-01-01T00:00:00Z"}
    postgres.query(
        "INSERT INTO request_logs (request_id, integration_type, integration_key, user_id, request_type, request_content,"
        " normalized_request, status, response_content, cloudevent_id, accepted_at, completed_at)"
        " VALUES (%s, 'tool', %s, 'ann', 'message', 'q', %s, 'completed', 'the answer', 'e', now(), now())",
        request_id,
        tool,
        json.dumps(normalized),
    )
    return response_ready(request_id, "tool")


def test_a_webhook_that_hangs_delays_no_other(
    dispatch: Function, postgres: Postgres, recorder: Recorder, hanging: Hanging
) -> None:
    dead = [answered(postgres, f"dead{number}", "dead") for number in range(10)]
    live = [answered(postgres, f"live{number}", "live") for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        stuck = [pool.submit(dispatch.post_event, one) for one in dead]
        for _ in range(2):
            assert hanging.arrived.acquire(timeout=10)
        started = time.monotonic()
        for one in live:
            assert dispatch.post_event(one).status == 204
        assert time.monotonic() - started < 5  # a send that hangs takes 20 s
        assert len(recorder.events) == 10
        held_off = [one.result() for one in first_of(stuck, 8)]
        assert [one.status for one in held_off] == [503] * 8
        assert all("retry-after" in one.headers for one in held_off)
        hanging.let_go.set()
        assert sorted(one.result(10).status for one in stuck) == [204] * 2 + [503] * 8
    # What was held off was not tried: it has no attempt, and goes out when it comes again.
    assert postgres.query(
        "SELECT delivery_attempts, count(*) FROM request_logs WHERE integration_key = 'dead' GROUP BY 1"
    ) == [
        (0, 8),
        (1, 2),
    ]
    assert {dispatch.post_event(one).status for one in dead} == {204}
    assert 'deliveries_held_off_total{channel="webhook"} 8.0' in dispatch.get("/metrics").body.decode()


def test_a_webhook_that_asks_us_to_wait_is_left_alone_meanwhile(
    dispatch: Function, postgres: Postgres, recorder: Recorder
) -> None:
    first, second = answered(postgres, "r1", "live"), answered(postgres, "r2", "live")
    recorder.status, recorder.answer_headers = 429, {"retry-after": "2"}
    told = time.monotonic()
    answer = dispatch.post_event(first)
    problem(answer, 503)
    assert answer.headers["retry-after"] == "2"
    recorder.status, recorder.answer_headers = 204, {}
    while (answer := dispatch.post_event(second)).status == 503:
        assert time.monotonic() - told < 10
        assert len(recorder.events) == 1
        time.sleep(0.1)
    assert answer.status == 204
    assert time.monotonic() - told >= 2
    assert dispatch.post_event(first).status == 204
    assert len(recorder.events) == 3


def test_a_retry_after_that_is_a_date_is_understood(dispatch: Function, postgres: Postgres, recorder: Recorder) -> None:
    recorder.status, recorder.answer_headers = 503, {"retry-after": "Fri, 31 Dec 2100 23:59:59 GMT"}
    answer = dispatch.post_event(answered(postgres, "r1", "live"))
    problem(answer, 503)
    assert int(answer.headers["retry-after"]) > 3600
