"""What broke in the system that this one replaces, and is tested nowhere else (the whole list: docs/security.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.parts.events import PREFIX, event, request_created
from tests.parts.functions import Event, Function
from tests.parts.net import call, problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, GATEWAY_SECRET, credentials, settings_of_ingest
from tests.security.conftest import started


@pytest.fixture(scope="module")
def functions(recorder: Recorder, postgres_server: Postgres) -> Iterator[dict[str, Function]]:
    settings = {**postgres_server.environment(), **settings_of_ingest(recorder.url), "SLACK_API_URL": recorder.url}
    names = ("ingest-web", "session-upsert", "response-dispatch", "dead-letter", "request-status")
    yield from started(names, {**settings, "SLACK_BOT_TOKEN": "xoxb-test"})


def read(functions: dict[str, Function], request_id: str, query: str = "") -> dict[str, object]:
    answer = functions["request-status"].get(
        f"/api/v1/requests/{request_id}{query}", x_gateway_secret=GATEWAY_SECRET, x_user_id="webuser123"
    )
    assert answer.status == 200, answer
    shown: dict[str, object] = answer.json()
    return shown


def answered(postgres: Postgres, request_id: str) -> None:
    postgres.query(
        "UPDATE request_logs SET status = 'completed', response_content = 'the answer', agent_id = 'a',"
        " completed_at = now() WHERE request_id = %s",
        request_id,
    )


def test_a_failed_event_is_done_on_redelivery_not_skipped(serve: Callable[..., Function], postgres: Postgres) -> None:
    """It was answered 200 "skipped", and 200 "duplicate" while PostgreSQL was down: acknowledged and lost."""
    upsert = serve("session-upsert", postgres.environment())
    created = request_created(request_id="r1")
    postgres.query("ALTER TABLE request_logs RENAME TO request_logs_away")
    try:
        for _ in range(3):
            problem(upsert.post_event(created), 503)
    finally:
        postgres.query("ALTER TABLE request_logs_away RENAME TO request_logs")
    assert Event.of(upsert.post_event(created)).attribute("id") == "r1.session"
    assert postgres.query("SELECT count(*) FROM request_logs") == [(1,)]


def test_no_event_function_answers_a_body_that_is_no_event(
    functions: dict[str, Function], postgres: Postgres, recorder: Recorder
) -> None:
    """Successes answered JSON, which brokers count as failure."""
    recorder.clear()
    created = request_created(request_id="r1")
    for name in ("session-upsert", "response-dispatch", "dead-letter"):
        ready = event(PREFIX + "agent.response-ready", "r1.response", ready_data("web"), requestid="r1")
        answer = functions[name].post_event(ready if name == "response-dispatch" else created)
        assert answer.status < 300, (name, answer)
        assert answer.body == b"" or "ce-type" in answer.headers, name


def ready_data(integration: str) -> dict[str, object]:
    return {
        "request_id": "r1",
        "session_id": None,
        "integration_type": integration,
        "user_id": "webuser123",
        "status": "completed",
        "agent_id": "a",
        "content": "forged",
        "error": None,
        "completed_at": "2026-01-01T00:00:01Z",
    }


def test_an_event_that_claims_another_channel_sends_an_answer_nowhere_else(
    functions: dict[str, Function], postgres: Postgres, recorder: Recorder
) -> None:
    """Answers of every channel went to every other channel of the user."""
    recorder.clear()
    functions["session-upsert"].post_event(request_created(request_id="r1"))
    answered(postgres, "r1")
    recorder.clear()
    for integration in ("slack", "tool", "cli"):
        forged = event(PREFIX + "agent.response-ready", "forged", ready_data(integration), requestid="r1")
        functions["response-dispatch"].post_event(forged)
    assert [*zip(recorder.paths, (each.headers for each in recorder.events), strict=True)] == []


def test_a_new_event_with_an_old_request_id_changes_no_stored_answer(
    functions: dict[str, Function], postgres: Postgres, recorder: Recorder
) -> None:
    """It overwrote the answer; so did an unauthenticated POST of a forged event."""
    functions["session-upsert"].post_event(request_created(request_id="r1"))
    answered(postgres, "r1")
    before = postgres.query("SELECT * FROM request_logs"), postgres.query("SELECT * FROM request_sessions")
    changed = request_created(request_id="r1", content="forged", user_id="mallory", conversation_key="other")
    forged = [
        changed.but(id="new-id"),
        changed.but(id="new-id", source="/elsewhere"),
        event(PREFIX + "agent.response-ready", "new-id", ready_data("web"), requestid="r1"),
        changed.but(id="new-id", knativeerrordest="http://x/", knativeerrorcode="400"),
        changed.but(id="new-id", knativeerrordest="http://x/", knativeerrorcode="500", resends="99"),
    ]
    for one in forged:
        for name in ("session-upsert", "response-dispatch", "dead-letter"):
            assert functions[name].post_event(one).status != 500, name
    assert (postgres.query("SELECT * FROM request_logs"), postgres.query("SELECT * FROM request_sessions")) == before
    assert read(functions, "r1")["response"] == {"content": "the answer"}


def test_a_request_that_was_not_waited_for_long_enough_can_still_be_fetched(
    functions: dict[str, Function], postgres: Postgres
) -> None:
    """One that timed out could never be fetched again."""
    functions["session-upsert"].post_event(request_created(request_id="r1"))
    assert read(functions, "r1", "?wait=0.1")["status"] == "queued"
    answered(postgres, "r1")
    for _ in range(2):
        assert read(functions, "r1", "?wait=0.1")["response"] == {"content": "the answer"}


def test_eight_claims_of_one_delivery_at_once_are_one(functions: dict[str, Function], postgres: Postgres) -> None:
    """7 of 8 concurrent claimers won one claim."""
    functions["session-upsert"].post_event(request_created(request_id="r1"))
    answered(postgres, "r1")
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda _: postgres.query("SELECT begin_delivery('r1', interval '1 minute')"), range(8)))
    assert sorted(row[0][0]["outcome"] for row in rows) == ["busy"] * 7 + ["send"]


def test_the_same_post_twice_is_one_request(functions: dict[str, Function], recorder: Recorder, postgres: Postgres) -> None:
    """It was two."""
    recorder.clear()
    raw = json.dumps(BODIES["web"]).encode()
    headers = {"content-type": "application/json", "idempotency-key": "k", **credentials("web", raw, "webuser123")}
    for _ in range(3):
        assert call("POST", functions["ingest-web"].url, body=raw, headers=headers).status == 202
    for created in recorder.events:
        functions["session-upsert"].post_event(created)
    assert postgres.query("SELECT count(*) FROM request_logs") == [(1,)]


@pytest.mark.parametrize(
    "asset", ["../func.py", "..%2ffunc.py", "%2e%2e%2ffunc.py", "func.py", "....//func.py", "%00.js", ".js"]
)
def test_the_pages_files_are_all_that_is_served(functions: dict[str, Function], asset: str) -> None:
    answer = functions["ingest-web"].get(f"/web/{asset}")
    assert answer.status in (308, 400, 404), answer
    assert b"import" not in answer.body
