"""Several messages of one session at once: those that wait in the process follow one another without a delay."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional.test_agent_invoke import Chain
from tests.parts.functions import Function, running
from tests.parts.llama import DemoModel
from tests.parts.postgres import Postgres


@pytest.fixture(scope="module")
def functions(postgres_server: Postgres, llama_stack: str) -> Iterator[dict[str, Function]]:
    settings = {**postgres_server.environment(), "LLAMA_STACK_URL": llama_stack, "TURN_WAIT_SECONDS": "20", "THREADS": "16"}
    with running(("agent-invoke", "session-upsert"), settings) as started:
        yield started


@pytest.fixture
def chain(functions: dict[str, Function], postgres: Postgres, demo_model: DemoModel) -> Chain:
    return Chain(functions, postgres, demo_model)


def test_five_messages_at_once_are_answered_in_order_and_none_is_sent_back(chain: Chain) -> None:
    """With 16 threads four may wait for the turn that runs; each looks when its time has come, not at each end before it."""
    events = [chain.record(f"r{number}", f"printer {number}") for number in range(5)]
    chain.model.control(delay_ms=150)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(chain.agent.post_event, reversed(events)))
    assert [answer.status for answer in answers] == [200] * 5
    assert chain.asked() == [f"printer {number}" for number in range(5)]
    [(longest,)] = chain.postgres.query(
        "SELECT max(gap) FROM (SELECT started_at - lag(completed_at) OVER (ORDER BY started_at) AS gap FROM request_logs) g"
    )
    assert longest.total_seconds() < 1.5  # who was not woken looks again after 2 s


def test_who_is_too_far_back_is_brought_again_by_the_broker(chain: Chain) -> None:
    events = [chain.record(f"r{number}", f"printer {number}") for number in range(6)]
    assert chain.agent.post_event(events[5]).status == 409
    assert chain.asked() == []
