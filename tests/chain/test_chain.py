"""What the README shows and the promises say, on the whole running platform."""

from __future__ import annotations

import os
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from tests.chain.conftest import Chain
from tests.parts.net import call, problem
from tests.parts.samples import BODIES
from tests.platform.support import until


def conversation() -> dict[str, Any]:
    """A session token nobody used before."""
    return {"session_token": uuid.uuid4().hex}


def rows(chain: Chain, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(chain.database_url, autocommit=True) as connection:
        return connection.execute(statement, parameters).fetchall()


@pytest.mark.parametrize("integration", list(BODIES))
def test_the_documents_request_is_answered(chain: Chain, integration: str) -> None:
    answered = chain.ask(integration)
    assert answered["status"] == "completed"
    assert answered["integration_type"] == integration
    assert answered["agent_id"] == "laptop-refresh"
    assert answered["response"]["content"]
    assert answered["session_id"]
    assert answered["processing_time_ms"] >= 0


def test_answers_go_to_the_slack_thread_and_the_webhook_once(chain: Chain) -> None:
    sent = {integration: chain.ask(integration)["request_id"] for integration in ("slack", "tool")}

    def delivered() -> dict[str, list[Any]]:
        found = chain.platform.get("/_platform/deliveries").json()
        mine = {name: [one for one in found if one["request_id"] == request_id] for name, request_id in sent.items()}
        return mine if all(mine.values()) else {}

    deliveries = until(delivered, "both answers are delivered")
    [slack], [webhook] = deliveries["slack"], deliveries["tool"]
    assert (slack["channel"], slack["body"]["thread_ts"]) == ("slack", BODIES["slack"]["thread_id"])
    assert webhook["channel"] == "webhook"
    assert webhook["headers"]["webhook-id"]
    assert webhook["body"]["data"]["tool_context"]["ticket_id"] == "INC123456"


def test_a_hand_over_is_kept_and_the_follow_up_knows_the_first_message(chain: Chain) -> None:
    mine = conversation()
    first = chain.ask("web", {**mine, "content": "I want to refresh my laptop"})
    calls = len(chain.model_calls())
    second = chain.ask("web", {**mine, "content": "What did I ask first?"})
    assert (first["agent_id"], second["agent_id"]) == ("laptop-refresh", "laptop-refresh")
    assert len(chain.model_calls()) == calls + 1
    assert "I want to refresh my laptop" in second["response"]["content"]
    assert first["session_id"] == second["session_id"]
    session = chain.platform.get(f"/api/v1/sessions/{first['session_id']}").json()
    assert [message["role"] for message in session["messages"]] == ["user", "assistant", "user", "assistant"]


def test_four_concurrent_messages_of_one_session_are_answered_one_at_a_time_in_order(chain: Chain) -> None:
    mine = conversation()
    chain.control_model(delay_ms=200)
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda n: chain.send("web", {**mine, "content": f"message {n}"}).json(), range(4)))
        answers = list(pool.map(lambda one: chain.result(one["request_id"]), sent))
    assert {answer["status"] for answer in answers} == {"completed"}
    assert len({answer["session_id"] for answer in answers}) == 1
    in_order = rows(
        chain,
        "SELECT request_content, started_at, completed_at FROM request_logs WHERE session_id = %s ORDER BY accepted_at",
        answers[0]["session_id"],
    )
    assert [call["last_user_message"] for call in chain.model_calls()] == [content for content, _, _ in in_order]
    assert all(before[2] <= after[1] for before, after in pairwise(in_order))


def test_three_first_contacts_at_once_are_one_session(chain: Chain) -> None:
    mine = conversation()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda n: chain.ask("web", {**mine, "content": f"hello {n}"}), range(3)))
    assert len({answer["session_id"] for answer in answers}) == 1
    assert len({answer["request_id"] for answer in answers}) == 3


def test_the_same_idempotency_key_twice_is_one_request_one_answer_one_model_call(chain: Chain) -> None:
    mine = conversation()
    with ThreadPoolExecutor(5) as pool:
        sent = list(
            pool.map(lambda _: chain.send("web", {**mine, "content": "a printer"}, idempotency_key="k1").json(), range(5))
        )
    [request_id] = {one["request_id"] for one in sent}
    chain.result(request_id)
    again = chain.send("web", {**mine, "content": "a printer"}, idempotency_key="k1").json()
    assert again["request_id"] == request_id
    until(lambda: _settled(chain), "the broker has delivered everything")
    assert len(chain.model_calls()) == 1
    statement = "SELECT total_requests FROM request_sessions JOIN request_logs USING (session_id) WHERE request_id = %s"
    assert rows(chain, statement, request_id) == [(1,)]


def _settled(chain: Chain) -> bool:
    broker = chain.platform.description()["broker"]["url"].rsplit("/", 2)[0]
    return bool(call("GET", f"{broker}/_broker/stats").json()["waiting"] == 0)


def test_a_disabled_integration_is_answered_as_failed(chain: Chain) -> None:
    with psycopg.connect(chain.database_url, autocommit=True) as connection:
        connection.execute("UPDATE integration_configs SET enabled = false WHERE integration_type = 'cli'")
        try:
            failed = chain.ask("cli")
        finally:
            connection.execute("UPDATE integration_configs SET enabled = true WHERE integration_type = 'cli'")
    assert failed["status"] == "failed"
    assert failed["error"]["code"] == "integration_disabled"


def test_a_refused_request_leaves_no_trace(chain: Chain) -> None:
    before = rows(chain, "SELECT count(*) FROM request_logs")
    problem(chain.send("web", {"content": ""}), 422)
    problem(call("POST", f"{chain.platform.url}/api/v1/requests/slack", json_body=BODIES["slack"]), 401)
    problem(call("POST", f"{chain.platform.url}/api/v1/requests/tool", json_body=BODIES["tool"]), 401)
    assert rows(chain, "SELECT count(*) FROM request_logs") == before


def test_one_request_id_finds_its_lines_in_every_function(chain: Chain) -> None:
    request_id = chain.ask("web", conversation())["request_id"]
    until(lambda: _settled(chain), "the broker has delivered everything")
    found = {
        path.stem
        for path in (chain.platform.state / "logs").glob("*.log")
        if any(request_id in line for line in path.read_text(errors="replace").splitlines())
    }
    assert {"ingest-web", "session-upsert", "agent-invoke", "response-dispatch", "broker"} <= found


def test_no_log_holds_what_people_wrote_or_were_told(chain: Chain) -> None:
    answered = chain.ask("web", {**conversation(), "content": "my-very-private-words laptop"})
    assert "my-very-private-words" in answered["response"]["content"]
    for path in (chain.platform.state / "logs").glob("*.log"):
        assert "my-very-private-words" not in path.read_text(errors="replace"), path.name


@pytest.mark.parametrize("name", ["session-upsert", "agent-invoke", "broker", "postgresql"])
def test_a_part_killed_under_load_loses_nothing_and_answers_once(chain: Chain, name: str) -> None:
    chain.control_model(delay_ms=50)
    description = chain.platform.description()
    part = description["functions"].get(name) or description["database" if name == "postgresql" else name]
    accepted = []
    with ThreadPoolExecutor(8) as pool:
        sending = [pool.submit(chain.send, "web", {**conversation(), "content": f"printer {n}"}) for n in range(40)]
        until(lambda: len(chain.model_calls()) >= 3, "the chain is at work")
        os.kill(part["pid"], signal.SIGKILL)
        for one in sending:
            answer = one.result()
            assert answer.status in (202, 503), answer.body
            if answer.status == 202:
                accepted.append(answer.json()["request_id"])
    assert accepted
    until(lambda: chain.platform.get("/health").status == 200, "the part is back")
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(chain.result, accepted))
    assert {result["status"] for result in results} == {"completed"}
