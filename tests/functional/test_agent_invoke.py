"""agent-invoke on real HTTP, PostgreSQL and Llama Stack: one turn at a time, in order, committed once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from tests.parts.events import PREFIX, event, request_created
from tests.parts.functions import Event, Function, running
from tests.parts.llama import DemoModel
from tests.parts.net import free_port, problem
from tests.parts.postgres import Postgres


@pytest.fixture(scope="module")
def functions(postgres_server: Postgres, llama_stack: str) -> Iterator[dict[str, Function]]:
    settings = {**postgres_server.environment(), "LLAMA_STACK_URL": llama_stack, "TURN_WAIT_SECONDS": "15"}
    with running(("agent-invoke", "session-upsert"), settings) as started:
        yield started


class Chain:
    """The two functions that a turn goes through."""

    def __init__(self, functions: dict[str, Function], postgres: Postgres, model: DemoModel) -> None:
        self.upsert = functions["session-upsert"]
        self.agent = functions["agent-invoke"]
        self.postgres = postgres
        self.model = model

    def record(self, request_id: str, content: str = "Which printers are there?", **more: Any) -> Event:
        """The session event of a recorded request; a later one is accepted later."""
        accepted_at = f"2026-01-01T00:00:00.{len(self.postgres.query('SELECT 1 FROM request_logs')):06d}Z"
        created = request_created(request_id=request_id, content=content, **{"accepted_at": accepted_at, **more})
        return Event.of(self.upsert.post_event(created))

    def ask(self, request_id: str, content: str = "Which printers are there?", **more: Any) -> dict[str, Any]:
        """The answer of a turn."""
        answer = self.agent.post_event(self.record(request_id, content, **more))
        assert answer.status == 200, answer.body
        reply: dict[str, Any] = Event.of(answer).data()
        return reply

    def asked(self) -> list[str]:
        """What the model was asked, oldest first."""
        return [call["last_user_message"] for call in self.model.calls()]


@pytest.fixture
def chain(functions: dict[str, Function], postgres: Postgres, demo_model: DemoModel) -> Chain:
    return Chain(functions, postgres, demo_model)


def test_a_turn_is_answered_and_committed(chain: Chain) -> None:
    ready = chain.record("r1")
    reply = Event.of(chain.agent.post_event(ready))
    assert reply.attribute("type") == PREFIX + "agent.response-ready"
    assert reply.attribute("id") == "r1.response"
    assert reply.attribute("sessionid") == ready.attribute("sessionid")
    assert reply.attribute("traceparent") == ready.attribute("traceparent")
    data = reply.data()
    assert (data["status"], data["agent_id"], data["error"]) == ("completed", "routing-agent", None)
    [row] = chain.postgres.query("SELECT status, response_content, agent_id, attempts, model_calls FROM request_logs")
    assert row == ("completed", data["content"], "routing-agent", 1, 1)
    [(owner, until, agent, tokens)] = chain.postgres.query(
        "SELECT lease_owner, lease_until, current_agent_id, input_tokens > 0 FROM request_sessions"
    )
    assert (owner, until, agent, tokens) == (None, None, "routing-agent", True)


def test_the_same_event_again_gives_the_same_reply_and_asks_nobody(chain: Chain) -> None:
    ready = chain.record("r1")
    first = Event.of(chain.agent.post_event(ready))
    calls = len(chain.model.calls())
    again = [Event.of(chain.agent.post_event(ready)) for _ in range(3)]
    assert set(again) == {first}
    assert len(chain.model.calls()) == calls


def test_the_same_event_ten_times_at_once_is_one_model_call_and_one_answer(chain: Chain) -> None:
    ready = chain.record("r1")
    chain.model.control(delay_ms=300)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(chain.agent.post_event, [ready] * 10))
    assert {answer.status for answer in answers} <= {200, 409}
    assert len({Event.of(answer) for answer in answers if answer.status == 200}) == 1
    assert len(chain.model.calls()) == 1
    assert chain.postgres.query("SELECT attempts, model_calls FROM request_logs") == [(1, 1)]


def test_the_agent_knows_what_was_said_before(chain: Chain) -> None:
    chain.ask("r1", "My printer is jammed")
    assert "My printer is jammed" in chain.ask("r2", "What did I ask first?")["content"]


def test_a_laptop_refresh_is_handed_over_and_stays_with_the_specialist(chain: Chain) -> None:
    first = chain.ask("r1", "I want to refresh my laptop")
    assert first["agent_id"] == "laptop-refresh"
    calls = len(chain.model.calls())
    assert calls == 2
    second = chain.ask("r2", "It is a ThinkPad")
    assert second["agent_id"] == "laptop-refresh"
    assert len(chain.model.calls()) == calls + 1
    assert chain.postgres.query("SELECT current_agent_id FROM request_sessions") == [("laptop-refresh",)]


def test_a_tools_ticket_reaches_the_agent(chain: Chain) -> None:
    data = chain.ask(
        "r1",
        "User laptop needs refresh",
        integration_type="tool",
        integration_key="snow-integration",
        context={"tool_context": {"ticket_id": "INC123456"}},
    )
    assert "INC123456" in data["content"]


def test_concurrent_turns_of_one_session_run_one_at_a_time_in_the_order_of_acceptance(chain: Chain) -> None:
    chain.model.control(delay_ms=150)
    ready = [chain.record(f"r{number}", f"message {number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(chain.agent.post_event, reversed(ready)))
    assert {answer.status for answer in answers} == {200}
    assert chain.asked() == [f"message {number}" for number in range(4)]
    calls = chain.model.calls()
    assert all(before["ended"] <= after["started"] for before, after in pairwise(calls))


def test_a_turn_whose_earlier_one_is_not_finished_waits_and_then_is_409(
    chain: Chain, serve: Callable[..., Function], llama_stack: str
) -> None:
    impatient = serve(
        "agent-invoke", {**chain.postgres.environment(), "LLAMA_STACK_URL": llama_stack, "TURN_WAIT_SECONDS": "0.3"}
    )
    chain.record("r1")
    second = chain.record("r2")
    answer = impatient.post_event(second)
    problem(answer, 409)
    assert "retry-after" in answer.headers
    assert chain.model.calls() == []


def test_a_turn_far_back_in_the_queue_is_409_at_once_and_holds_no_thread(chain: Chain) -> None:
    for number in range(4):
        chain.record(f"r{number}")
    problem(chain.agent.post_event(chain.record("r5")), 409)


def test_one_busy_session_delays_no_other(chain: Chain) -> None:
    chain.model.control(delay_ms=700)
    busy = [chain.record(f"b{number}") for number in range(4)]
    other = chain.record("other", conversation_key="c2")
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(chain.agent.post_event, one) for one in busy]
        answer = pool.submit(chain.agent.post_event, other).result(30)
        assert answer.status == 200
        assert not all(one.done() for one in waiting)
        assert {one.result(30).status for one in waiting} == {200}


def test_llama_stack_down_is_503_and_the_turn_is_free_again(
    chain: Chain, serve: Callable[..., Function], llama_stack: str
) -> None:
    lost = serve("agent-invoke", {**chain.postgres.environment(), "LLAMA_STACK_URL": f"http://127.0.0.1:{free_port()}"})
    ready = chain.record("r1")
    answer = lost.post_event(ready)
    problem(answer, 503)
    assert chain.postgres.query("SELECT status FROM request_logs") == [("queued",)]
    assert chain.agent.post_event(ready).status == 200
    assert chain.postgres.query("SELECT attempts FROM request_logs") == [(2,)]


def test_a_slow_agent_is_503_after_agent_timeout(chain: Chain, serve: Callable[..., Function], llama_stack: str) -> None:
    chain.model.control(delay_ms=5000)
    strict = serve("agent-invoke", {**chain.postgres.environment(), "LLAMA_STACK_URL": llama_stack, "AGENT_TIMEOUT": "0.7"})
    problem(strict.post_event(chain.record("r1")), 503)


def test_an_upstream_failure_is_503_and_the_turn_can_be_tried_again(chain: Chain) -> None:
    ready = chain.record("r1")
    chain.model.control(fail_next=3, status=503)  # the server itself tries three times
    problem(chain.agent.post_event(ready), 503)
    assert chain.agent.post_event(ready).status == 200


def test_an_unknown_model_fails_the_turn_at_once_with_a_sentence(
    chain: Chain, serve: Callable[..., Function], llama_stack: str
) -> None:
    wrong = serve(
        "agent-invoke", {**chain.postgres.environment(), "LLAMA_STACK_URL": llama_stack, "AGENT_MODEL": "demo/no-such-model"}
    )
    reply = Event.of(wrong.post_event(chain.record("r1")))
    assert reply.attribute("id") == "r1.failed"
    data = reply.data()
    assert data["status"] == "failed"
    assert data["error"]["message"].endswith((".", "!"))
    assert "no-such-model" not in data["error"]["message"]
    assert chain.postgres.query("SELECT status, error_code FROM request_logs") == [("failed", data["error"]["code"])]
    assert chain.ask("r2")["status"] == "completed"


def test_a_worker_that_is_killed_in_its_turn_is_taken_over_and_its_answer_committed_once(
    chain: Chain, serve: Callable[..., Function], llama_stack: str
) -> None:
    settings = {**chain.postgres.environment(), "LLAMA_STACK_URL": llama_stack, "LEASE_SECONDS": "1"}
    doomed, other = serve("agent-invoke", settings), serve("agent-invoke", settings)
    ready = chain.record("r1")
    chain.model.control(delay_ms=1500)
    with ThreadPoolExecutor() as pool:
        pool.submit(doomed.post_event, ready)
        chain.model.wait_for_calls(1)
        doomed.stop(signal.SIGKILL)
        chain.model.control(delay_ms=0)
        assert other.post_event(ready).status == 200
    [(attempts, status)] = chain.postgres.query("SELECT attempts, status FROM request_logs")
    assert (attempts, status) == (2, "completed")
    assert len(chain.model.calls()) == 2
    assert "self_service_agent_lease_takeovers_total 1.0" in other.get("/metrics").body.decode()


def test_a_lease_lasts_as_long_as_its_worker(chain: Chain, serve: Callable[..., Function], llama_stack: str) -> None:
    settings = {
        **chain.postgres.environment(),
        "LLAMA_STACK_URL": llama_stack,
        "LEASE_SECONDS": "1",
        "TURN_WAIT_SECONDS": "10",
    }
    worker, other = serve("agent-invoke", settings), serve("agent-invoke", settings)
    ready = chain.record("r1")
    chain.model.control(delay_ms=2500)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(worker.post_event, ready)
        chain.model.wait_for_calls(1)
        second = pool.submit(other.post_event, ready)
        assert Event.of(first.result(20)) == Event.of(second.result(20))
    assert len(chain.model.calls()) == 1


def test_a_worker_that_lost_its_lease_cannot_commit(chain: Chain) -> None:
    """The fencing number: another worker has taken the turn over while this one was still asking."""
    ready = chain.record("r1")
    chain.model.control(delay_ms=800)
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(chain.agent.post_event, ready)
        chain.model.wait_for_calls(1)
        chain.postgres.query("UPDATE request_sessions SET lease_owner = 'another', lease_fence = lease_fence + 1")
        problem(slow.result(20), 409)
    assert chain.postgres.query("SELECT status, response_content FROM request_logs") == [("processing", None)]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(event(PREFIX + "session.created", "x", {}), id="no data"),
        pytest.param(event(PREFIX + "session.created", "x", {"session": {}, "request": {}}), id="fields missing"),
        pytest.param(event(PREFIX + "request.created", "x", {}), id="another type"),
        pytest.param(Event({"content-type": "application/json"}, b"{}"), id="no event"),
    ],
)
def test_what_is_no_session_event_is_400(chain: Chain, broken: Event) -> None:
    problem(chain.agent.post_event(broken), 400)
    assert chain.model.calls() == []


def test_a_request_that_was_never_recorded_is_400(chain: Chain) -> None:
    ready = chain.record("r1")
    data = ready.data()
    data["request"]["request_id"] = "forged"
    problem(chain.agent.post_event(ready.but(data=data, id="forged.session")), 400)
    assert chain.model.calls() == []


def test_what_the_event_says_is_not_what_the_agent_is_asked(chain: Chain) -> None:
    ready = chain.record("r1", "what was recorded")
    data = ready.data()
    data["request"]["content"] = "what was forged"
    assert chain.agent.post_event(ready.but(data=data)).status == 200
    assert chain.asked() == ["what was recorded"]


def test_turns_that_come_late_keep_their_order_and_see_each_other(chain: Chain) -> None:
    """Regression: two late turns were clamped to the same place, and the second did not see the first."""
    chain.ask("r9", "hello", accepted_at="2026-01-01T00:00:09Z")
    later = [chain.record(name, f"it is {name}", accepted_at="2026-01-01T00:00:01Z") for name in ("zzz", "aaa")]
    for ready in later:
        assert chain.agent.post_event(ready).status == 200
    places = chain.postgres.query("SELECT request_id FROM request_logs ORDER BY accepted_at, request_id")
    assert places == [("r9",), ("zzz",), ("aaa",)]
    history = "SELECT claim_turn('last', 'x', interval '1 s', 20) -> 'history'"
    chain.record("last", accepted_at="2026-01-01T00:00:02Z")
    [(said,)] = chain.postgres.query(history)
    assert [asked for asked, _ in said] == ["hello", "it is zzz", "it is aaa"]


def test_a_claim_that_is_run_again_finds_its_own_lease(chain: Chain) -> None:
    """Regression: after a cut connection the claim was run again, and waited for its own lease to end."""
    chain.record("r1")
    claim = "SELECT claim_turn('r1', 'owner-1', interval '15 s', 20) ->> 'outcome'"
    assert [chain.postgres.query(claim) for _ in range(2)] == [[("claimed",)]] * 2
    assert chain.postgres.query(claim.replace("owner-1", "owner-2")) == [("busy",)]


def test_a_call_of_the_model_is_counted_even_when_its_worker_is_killed(chain: Chain) -> None:
    """Regression for P4: the call of a worker that was killed before its commit was not counted."""
    chain.record("r1")
    chain.postgres.query("SELECT claim_turn('r1', 'killed', interval '0 s', 20)")
    chain.postgres.query("UPDATE request_sessions SET lease_until = now() - interval '1 s'")
    ready = chain.record("r1")
    assert chain.agent.post_event(ready).status == 200
    assert chain.postgres.query("SELECT attempts, model_calls FROM request_logs") == [(2, 2)]
