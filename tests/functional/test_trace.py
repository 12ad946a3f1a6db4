"""GET /api/v1/requests/{id}/trace over real HTTP and real PostgreSQL: each step with its time, for its owner alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.functional.test_request_status import Reader
from tests.parts.events import request_created
from tests.parts.functions import Function, running
from tests.parts.net import problem
from tests.parts.postgres import Postgres
from tests.parts.samples import GATEWAY_SECRET, OTHER_TOOL_KEY, TOOL_KEY, TOOL_KEYS


@pytest.fixture(scope="module")
def functions(postgres_server: Postgres) -> Iterator[dict[str, Function]]:
    settings = {
        **postgres_server.environment(),
        "AUTH_MODE": "gateway",
        "GATEWAY_SECRET": GATEWAY_SECRET,
        "TOOL_KEYS": TOOL_KEYS,
    }
    with running(("request-status", "session-upsert"), settings) as started:
        yield started


@pytest.fixture
def reader(functions: dict[str, Function], postgres: Postgres) -> Reader:
    return Reader(functions, postgres)


def test_a_request_that_waits_has_steps_still_to_come(reader: Reader) -> None:
    session_id = reader.record()
    trace = reader.get("/api/v1/requests/r1/trace").json()
    assert (trace["status"], trace["session_id"], trace["integration_type"]) == ("queued", session_id, "web")
    assert trace["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    steps = [(one["function"], one["step"], one["at"] is not None) for one in trace["steps"]]
    assert steps == [
        ("ingest-web", "accepted", True),
        ("session-upsert", "recorded", True),
        ("agent-invoke", "started", False),
        ("agent-invoke", "answered", False),
    ]
    assert trace["steps"][0] == {
        "function": "ingest-web",
        "step": "accepted",
        "at": "2026-01-02T03:04:05.000001Z",
        "after_ms": 0,
        "detail": {},
    }
    assert trace["steps"][1]["detail"] == {"session": "opened"}


def test_a_delivery_is_a_step_and_a_dead_letter_is_told_without_addresses(reader: Reader) -> None:
    reader.record(integration_type="tool", integration_key="snow-integration")
    reader.postgres.query(
        "UPDATE request_logs SET status = 'completed', started_at = '2026-01-02T03:04:05.2Z', attempts = 2, model_calls = 3,"
        " completed_at = '2026-01-02T03:04:06Z',"
        ' response_metadata = \'{"usage": {"input_tokens": 7, "output_tokens": 8}}\','
        " delivery_attempts = 2, delivery_error = 'The webhook answered 500.'"
    )
    reader.postgres.query(
        "INSERT INTO dead_letters (event_source, event_id, event_type, request_id, destination, error_code, event)"
        " VALUES ('s', 'e', 'agent.response-ready', 'r1', 'http://internal.address/', '500', '{\"data\": \"private\"}')"
    )
    answer = reader.status.get("/api/v1/requests/r1/trace", x_api_key=TOOL_KEY)
    started, answered, delivered = answer.json()["steps"][2:]
    assert (started["after_ms"], started["detail"]) == (200, {"attempts": 2})
    assert (answered["after_ms"], answered["detail"]["model_calls"]) == (1000, 3)
    assert (answered["detail"]["input_tokens"], answered["detail"]["output_tokens"]) == (7, 8)
    assert (delivered["function"], delivered["at"]) == ("response-dispatch", None)
    assert delivered["detail"] == {"attempts": 2, "error": "The webhook answered 500."}
    [letter] = answer.json()["dead_letters"]
    assert (letter["type"], letter["code"], letter["seen"]) == ("agent.response-ready", "500", 1)
    assert b"internal.address" not in answer.body
    assert b"private" not in answer.body


def test_a_request_that_was_refused_never_came_to_the_agent(reader: Reader) -> None:
    reader.postgres.query("UPDATE integration_configs SET enabled = false WHERE integration_type = 'web'")

    reader.upsert.post_event(request_created(request_id="r1", user_id="ann"))
    trace = reader.get("/api/v1/requests/r1/trace").json()
    assert (trace["status"], trace["session_id"]) == ("failed", None)
    assert [one["function"] for one in trace["steps"]] == ["ingest-web", "session-upsert"]


def test_only_its_owner_reads_it(reader: Reader) -> None:
    reader.record()
    problem(reader.get("/api/v1/requests/r1/trace", user="mallory"), 403)
    problem(reader.get("/api/v1/requests/r1/trace", x_gateway_secret="wrong"), 401)  # pragma: allowlist secret
    problem(reader.status.get("/api/v1/requests/r1/trace", x_api_key=OTHER_TOOL_KEY), 403)
    problem(reader.get("/api/v1/requests/r2/trace"), 404)


def test_a_turn_that_stood_behind_another_says_when_it_came(reader: Reader) -> None:
    reader.record()
    reader.record(request_id="r2")
    assert [one["step"] for one in trace_of(reader, "r2")["steps"]] == [
        "accepted", "recorded", "turn came", "started", "answered",
    ]  # fmt: skip
    assert trace_of(reader, "r2")["steps"][2]["at"] is None
    reader.postgres.query(
        "UPDATE request_logs SET status = 'completed', completed_at = recorded_at + interval '1 h' WHERE request_id = 'r1'"
    )
    turn = trace_of(reader, "r2")["steps"][2]
    assert (turn["function"], turn["at"] is not None) == ("agent-invoke", True)
    reader.postgres.query("UPDATE request_logs SET completed_at = recorded_at - interval '1 hour' WHERE request_id = 'r1'")
    assert "turn came" not in [one["step"] for one in trace_of(reader, "r2")["steps"]]


def test_the_first_words_of_the_newest_attempt_are_a_step_while_they_are_kept(reader: Reader) -> None:
    reader.record()
    reader.postgres.query(
        "UPDATE request_logs SET status = 'processing', attempts = 2, started_at = '2026-01-02T03:04:05.2Z'"
    )
    reader.postgres.query(
        "INSERT INTO response_chunks VALUES ('r1', 1, 1, 'lost', '2026-01-02T03:04:05.3Z'),"
        " ('r1', 2, 1, NULL, '2026-01-02T03:04:05.4Z'), ('r1', 2, 2, 'words', '2026-01-02T03:04:05.500001Z'),"
        " ('r1', 2, 3, 'more', '2026-01-02T03:04:05.6Z')"
    )
    steps = trace_of(reader, "r1")["steps"]
    assert [(one["step"], one["after_ms"]) for one in steps[2:]] == [
        ("started", 200),
        ("first words", 500),
        ("answered", None),
    ]


def test_what_session_sweep_did_is_told_and_a_delivery_that_was_given_up(reader: Reader) -> None:
    reader.record(integration_type="tool", integration_key="snow-integration")
    reader.postgres.query(
        "UPDATE request_logs SET status = 'completed', started_at = '2026-01-02T03:20:00Z', attempts = 1,"
        " completed_at = '2026-01-02T03:20:01Z', resumes = 1, resumed_at = '2026-01-02T03:19:00Z', redeliveries = 3,"
        " redelivered_at = '2026-01-02T04:00:00Z', undeliverable_at = '2026-01-02T04:10:00Z', delivery_error = 'Gone.'"
    )
    found = reader.status.get("/api/v1/requests/r1/trace", x_api_key=TOOL_KEY).json()
    steps = [(one["function"], one["step"]) for one in found["steps"][2:]]
    assert steps == [
        ("session-sweep", "sent on"), ("agent-invoke", "started"), ("agent-invoke", "answered"),
        ("session-sweep", "sent again"), ("response-dispatch", "given up"),
    ]  # fmt: skip
    assert found["steps"][-1]["detail"] == {"attempts": 0, "error": "Gone."}
    times = [one["after_ms"] for one in found["steps"][2:]]
    assert times == sorted(times)


def trace_of(reader: Reader, request_id: str) -> dict[str, Any]:
    document: dict[str, Any] = reader.get(f"/api/v1/requests/{request_id}/trace").json()
    return document
