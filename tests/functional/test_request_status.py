"""request-status over real HTTP and real PostgreSQL: states, waiting, streams, and whose they are."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import urllib3

from tests.parts.events import request_created
from tests.parts.functions import Event, Function, running
from tests.parts.net import Answer, problem
from tests.parts.postgres import Postgres
from tests.parts.samples import GATEWAY_SECRET, OTHER_TOOL_KEY, TOOL_KEY, TOOL_KEYS


@pytest.fixture(scope="module")
def functions(postgres_server: Postgres) -> Iterator[dict[str, Function]]:
    settings = {
        **postgres_server.environment(),
        "AUTH_MODE": "gateway",
        "GATEWAY_SECRET": GATEWAY_SECRET,
        "TOOL_KEYS": TOOL_KEYS,
        "THREADS": "12",
    }
    with running(("request-status", "session-upsert"), settings) as started:
        yield started


class Reader:
    def __init__(self, functions: dict[str, Function], postgres: Postgres) -> None:
        self.status = functions["request-status"]
        self.upsert = functions["session-upsert"]
        self.postgres = postgres

    def get(self, path: str, user: str = "ann", **headers: str) -> Answer:
        return self.status.get(path, **{"x_gateway_secret": GATEWAY_SECRET, "x_user_id": user, **headers})

    def record(self, request_id: str = "r1", user: str = "ann", **more: Any) -> str:
        created = request_created(request_id=request_id, user_id=user, conversation_key=f"of-{user}", **more)
        return Event.of(self.upsert.post_event(created)).attribute("sessionid")

    def finish(self, request_id: str = "r1") -> None:
        """As finish_turn does: the row, and the notification."""
        self.postgres.query(
            "WITH done AS (UPDATE request_logs SET status = 'completed', response_content = 'the answer', agent_id = 'a',"
            " processing_time_ms = 5, completed_at = now() WHERE request_id = %s RETURNING session_id, request_id)"
            " SELECT pg_notify('turns', session_id || ' ' || request_id) FROM done",
            request_id,
        )


@pytest.fixture
def reader(functions: dict[str, Function], postgres: Postgres) -> Reader:
    return Reader(functions, postgres)


def test_a_request_from_queued_to_completed(reader: Reader) -> None:
    session_id = reader.record()
    before = reader.get("/api/v1/requests/r1")
    assert before.status == 200
    assert before.json() == {
        "request_id": "r1",
        "session_id": session_id,
        "integration_type": "web",
        "status": "queued",
        "agent_id": None,
        "created_at": "2026-01-02T03:04:05.000001Z",
        "completed_at": None,
        "processing_time_ms": None,
        "response": None,
        "error": None,
    }
    reader.finish()
    after = reader.get("/api/v1/requests/r1").json()
    assert (after["status"], after["agent_id"], after["response"]["content"]) == ("completed", "a", "the answer")
    assert after["processing_time_ms"] == 5
    assert after["completed_at"].endswith("Z")


def test_a_failed_request_says_why(reader: Reader) -> None:
    reader.record()
    reader.postgres.query(
        "UPDATE request_logs SET status = 'failed', error_code = 'c', error_message = 'A sentence.', completed_at = now()"
    )
    failed = reader.get("/api/v1/requests/r1").json()
    assert (failed["status"], failed["response"]) == ("failed", None)
    assert failed["error"] == {"code": "c", "message": "A sentence."}


def test_a_wait_ends_as_soon_as_the_answer_is_committed(reader: Reader) -> None:
    reader.record()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(reader.get, "/api/v1/requests/r1?wait=30")
        time.sleep(0.3)  # let it begin to wait
        assert not waiting.done()
        finished_at = time.monotonic()
        reader.finish()
        assert waiting.result(10).json()["status"] == "completed"
        assert time.monotonic() - finished_at < 1.5  # a recheck alone would take 2 s


def test_a_wait_that_is_over_tells_the_state(reader: Reader) -> None:
    reader.record()
    assert reader.get("/api/v1/requests/r1?wait=0.2").json()["status"] == "queued"


def test_an_id_that_is_not_recorded_is_404_and_is_waited_for(reader: Reader) -> None:
    problem(reader.get("/api/v1/requests/r1"), 404)
    problem(reader.get("/api/v1/requests/r1?wait=0.3"), 404)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(reader.get, "/api/v1/requests/r1?wait=30")
        reader.record()
        reader.finish()
        assert waiting.result(10).json()["status"] == "completed"


def test_more_readers_than_can_wait_are_answered_at_once_and_nobody_is_shut_out(reader: Reader) -> None:
    reader.record()
    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(reader.get, "/api/v1/requests/r1?wait=5") for _ in range(12)]
        assert reader.status.get("/health/readiness").status == 200
        reader.finish()
        assert {answer.result(10).status for answer in waiting} == {200}


@pytest.mark.parametrize("wait", ["61", "-1", "soon", "nan", "1e9", ""])
def test_an_impossible_wait_is_named(reader: Reader, wait: str) -> None:
    document = problem(reader.get(f"/api/v1/requests/r1?wait={wait}"), 422)
    assert document["errors"][0]["loc"] == "query.wait"


class TestWhoseItIs:
    def test_somebody_elses_request_stream_and_session_are_403(self, reader: Reader) -> None:
        session_id = reader.record()
        for path in ("/api/v1/requests/r1", "/api/v1/requests/r1?wait=1", "/api/v1/requests/r1/events"):
            problem(reader.get(path, user="mallory"), 403)
        problem(reader.get(f"/api/v1/sessions/{session_id}", user="mallory"), 403)

    def test_nobody_is_401(self, reader: Reader) -> None:
        session_id = reader.record()
        for path in ("/api/v1/requests/r1", "/api/v1/requests/r1/events", f"/api/v1/sessions/{session_id}"):
            problem(reader.get(path, x_gateway_secret="wrong"), 401)

    def test_a_tool_reads_what_it_asked_and_no_more(self, reader: Reader) -> None:
        session_id = reader.record("mine", integration_type="tool", integration_key="snow-integration")
        reader.record("web", user="ben")
        tool = {"x_api_key": TOOL_KEY}
        assert reader.status.get("/api/v1/requests/mine", **tool).status == 200
        assert reader.status.get(f"/api/v1/sessions/{session_id}", **tool).status == 200
        problem(reader.status.get("/api/v1/requests/web", **tool), 403)
        problem(reader.status.get("/api/v1/requests/mine", x_api_key=OTHER_TOOL_KEY), 403)
        problem(reader.status.get("/api/v1/requests/mine", x_api_key="wrong"), 401)


class TestSession:
    def test_the_conversation_in_order(self, reader: Reader) -> None:
        session_id = reader.record("r1", content="first")
        reader.finish("r1")
        reader.record("r2", content="second", accepted_at="2026-01-02T03:04:06Z")
        session = reader.get(f"/api/v1/sessions/{session_id}").json()
        assert session["session_id"] == session_id
        assert session["status"] == "active"
        said = [(one["role"], one["content"]) for one in session["messages"]]
        assert said == [("user", "first"), ("assistant", "the answer"), ("user", "second")]

    @pytest.mark.parametrize("session_id", ["nope", "7b7f6a3e-0000-4000-8000-000000000000", "x" * 300])
    def test_an_unknown_session_is_404(self, reader: Reader, session_id: str) -> None:
        problem(reader.get(f"/api/v1/sessions/{session_id}"), 404)


class Stream:
    """A reader of server-sent events."""

    def __init__(self, reader: Reader, path: str, **headers: str) -> None:
        given = {"x-gateway-secret": GATEWAY_SECRET, "x-user-id": "ann", **headers}
        pool = urllib3.PoolManager(retries=False, timeout=20)
        self.response = pool.request("GET", reader.status.url + path, headers=given, preload_content=False)
        self.events: list[tuple[int, str]] = []

    def read_all(self) -> list[tuple[int, str]]:
        text = b"".join(self.response.stream()).decode()
        for block in filter(None, text.split("\n\n")):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            self.events.append((int(fields["id"]), json.loads(fields["data"])["status"]))
        return self.events


class TestStream:
    def test_each_state_once_until_the_end(self, reader: Reader) -> None:
        reader.record()
        stream = Stream(reader, "/api/v1/requests/r1/events")
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        threading.Timer(0.2, reader.finish).start()
        assert stream.read_all() == [(1, "queued"), (3, "completed")]

    def test_a_stream_resumes_after_the_last_event(self, reader: Reader) -> None:
        reader.record()
        reader.finish()
        assert Stream(reader, "/api/v1/requests/r1/events").read_all() == [(3, "completed")]
        assert Stream(reader, "/api/v1/requests/r1/events", **{"last-event-id": "1"}).read_all() == [(3, "completed")]
        assert Stream(reader, "/api/v1/requests/r1/events", **{"last-event-id": "3"}).read_all() == []


def test_a_stream_does_not_hold_up_a_function_that_is_to_end(
    reader: Reader, serve: Callable[..., Function], postgres: Postgres
) -> None:
    """Regression: an open stream held the draining for as long as it may last; its reader can resume it elsewhere."""
    settings = {**postgres.environment(), "AUTH_MODE": "gateway", "GATEWAY_SECRET": GATEWAY_SECRET}
    reader.record()
    reader.status = serve("request-status", settings)
    with ThreadPoolExecutor() as pool:
        stream = Stream(reader, "/api/v1/requests/r1/events")
        reading = pool.submit(stream.read_all)
        started = time.monotonic()
        assert reader.status.stop() == 0
        assert time.monotonic() - started < 5
        assert reading.result(5) == [(1, "queued")]


@pytest.mark.parametrize("path", ["/", "/api/v1/requests", "/api/v1/requests/r1/other", "/api/v1/other"])
def test_an_unknown_path_is_404(reader: Reader, path: str) -> None:
    problem(reader.get(path), 404)


def test_a_post_is_405(reader: Reader) -> None:
    from tests.parts.net import call

    problem(call("POST", reader.status.url + "/api/v1/requests/r1", json_body={}), 405)
