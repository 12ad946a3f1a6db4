"""The functions, unchanged, on Knative's own broker handlers, with the Broker and Triggers that the chart renders."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.knative.chain import Chain, started
from tests.parts.llama import DemoModel
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES


@pytest.fixture(scope="module")
def chain(
    rendered: Callable[[str], Path], postgres_server: Postgres, llama_stack: str, recorder: Recorder
) -> Iterator[Chain]:
    with started(rendered("dev"), postgres_server, llama_stack, recorder) as running:
        yield running


@pytest.fixture(autouse=True)
def no_requests_yet(postgres: Postgres, demo_model: DemoModel) -> None:
    """An empty database and a model that remembers nothing."""


@pytest.mark.parametrize("integration", list(BODIES))
def test_the_documents_request_is_answered(chain: Chain, postgres: Postgres, integration: str) -> None:
    accepted = chain.send(integration)
    assert accepted.status == 202, accepted.body
    request_id = accepted.json()["request_id"]
    if integration in ("web", "cli", "tool"):
        answered = chain.result(request_id, integration)
        assert (answered["status"], answered["agent_id"]) == ("completed", "laptop-refresh")
        assert answered["response"]["content"]
    else:
        wait_for(lambda: row(postgres, request_id) == ("completed", "laptop-refresh", 1), "Slack's request is completed")
        wait_for(lambda: any("chat.postMessage" in path for path in chain.slack.paths), "the answer is in the thread")


def test_a_follow_up_is_in_the_same_session_and_in_order(chain: Chain) -> None:
    mine = {"session_token": uuid.uuid4().hex}
    first = chain.result(chain.send("web", **mine).json()["request_id"])
    second = chain.result(chain.send("web", **mine, content="What did I ask first?").json()["request_id"])
    assert first["session_id"] == second["session_id"]
    assert "I want to refresh my laptop" in second["response"]["content"]


def test_four_messages_at_once_of_one_session_are_all_answered_by_409_and_retries(
    chain: Chain, postgres: Postgres, demo_model: DemoModel
) -> None:
    demo_model.control(delay_ms=150)
    mine = {"session_token": uuid.uuid4().hex}
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda n: chain.send("web", **mine, content=f"message {n}").json()["request_id"], range(4)))
        answers = list(pool.map(chain.result, sent))
    assert {answer["status"] for answer in answers} == {"completed"}
    assert len({answer["session_id"] for answer in answers}) == 1
    times = postgres.query("SELECT started_at, completed_at FROM request_logs ORDER BY accepted_at")
    assert all(before[1] <= after[0] for before, after in pairwise(times))


def test_a_model_that_fails_for_a_while_is_asked_again(chain: Chain, demo_model: DemoModel) -> None:
    demo_model.control(fail_next=2, status=503)
    answered = chain.result(chain.send("web", session_token=uuid.uuid4().hex).json()["request_id"])
    assert answered["status"] == "completed"


def test_an_event_that_no_function_can_read_is_recorded_as_a_dead_letter(chain: Chain, postgres: Postgres) -> None:
    event_id = uuid.uuid4().hex
    chain.broker.post("com.self-service-agent.request.created", event_id, b'{"not": "a request"}')
    rows = wait_for(
        lambda: postgres.query("SELECT error_code, destination FROM dead_letters WHERE event_id = %s", event_id),
        "the dead letter is recorded",
    )
    assert [code for code, _ in rows] == ["400"]
    assert rows[0][1].rstrip("/") == chain.functions["session-upsert"].url


def row(postgres: Postgres, request_id: str) -> tuple[Any, ...] | None:
    found = postgres.query("SELECT status, agent_id, 1 FROM request_logs WHERE request_id = %s", request_id)
    return found[0] if found else None


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 40
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.05)
    return found
