"""A platform that runs: what its one address answers, and what it does when its processes die."""

from __future__ import annotations

import os
import signal
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.parts.net import Answer, call, problem
from tests.platform.conftest import Start
from tests.platform.support import Platform, is_alive, until

WEB = "/api/v1/requests/web"
BODY = {"user_id": "webuser123", "content": "I want to refresh my laptop", "session_token": "token123"}


def test_the_description_names_every_part_and_its_process(running: Platform) -> None:
    description = running.description()

    assert set(description["functions"]) == {"ingest-web", "dead-letter", "request-status"}
    for function in description["functions"].values():
        assert is_alive(function["pid"])
        assert function["ready"] is True
        assert call("GET", f"{function['url']}/health").status == 200
    assert is_alive(description["broker"]["pid"])
    assert description["broker"]["url"].endswith("/default/default")
    assert description["database"]["url"].startswith("postgresql://postgres:")
    assert description["llama_stack"]["pid"] is None
    assert "demo_model" not in description


def test_a_request_goes_through_the_door_and_its_trace_is_seen(running: Platform) -> None:
    answer = call("POST", running.url + WEB, json_body=BODY)

    assert answer.status == 202, answer.body
    request_id = answer.json()["request_id"]
    assert answer.headers["location"].endswith(request_id)
    trace = running.get(f"/_platform/trace/{request_id}").json()
    assert [event["type"] for event in trace["events"]] == ["com.self-service-agent.request.created"]


def test_what_a_function_refuses_comes_through_as_it_says_it(running: Platform) -> None:
    problem(call("POST", running.url + WEB, body=b"{", headers={"content-type": "application/json"}), 400)
    problem(call("GET", running.url + WEB), 405)
    problem(running.get("/api/v1/requests/no-such-request"), 404)
    problem(call("POST", running.url + WEB, json_body=BODY | {"content": "x" * 300_000}), 413)


def test_a_body_that_no_function_would_take_is_refused_by_the_door(running: Platform) -> None:
    problem(call("POST", running.url + WEB, body=b"x" * 3_000_000, headers={"content-type": "application/json"}), 413)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/v1/requests/unknown", 404),
        ("POST", "/api/v1/sessions/one", 405),
        ("GET", "/", 404),
        ("GET", "/api/v1/requestsx", 404),
        ("GET", "/metrics", 404),
        ("GET", "/_platform/unknown", 404),
        ("POST", "/_platform", 405),
    ],
)
def test_a_path_that_leads_nowhere_is_a_problem(running: Platform, method: str, path: str, status: int) -> None:
    problem(call(method, running.url + path), status)


def test_a_webhook_is_recorded_and_the_row_of_the_local_tool_names_it(running: Platform) -> None:
    with psycopg.connect(running.description()["database"]["url"]) as connection:
        found = connection.execute("SELECT delivery FROM integration_configs WHERE integration_key = 'snow-integration'")
        row = found.fetchone()
    assert row is not None
    assert row[0] == {"webhook_url": f"{running.url}/_platform/webhook/snow-integration", "secret_ref": "snow-integration"}

    sent = {"type": "t", "data": {"request_id": "r-1", "text": "ünï"}}
    assert call("POST", row[0]["webhook_url"], json_body=sent, headers={"Webhook-Id": "m-1"}).json() == {"ok": True}

    (delivery,) = running.get("/_platform/deliveries?request_id=r-1").json()
    assert (delivery["channel"], delivery["body"]) == ("webhook", sent)
    assert delivery["headers"]["webhook-id"] == "m-1"


def test_a_function_that_is_killed_runs_again_on_its_port(running: Platform) -> None:
    before = running.description()["functions"]["ingest-web"]

    os.kill(before["pid"], signal.SIGKILL)

    running.wait_said("ingest-web was ended by SIGKILL")
    running.wait_said("ingest-web is back")
    after = running.description()["functions"]["ingest-web"]
    assert (after["url"], after["restarts"]) == (before["url"], before["restarts"] + 1)
    assert after["pid"] != before["pid"]
    assert call("POST", running.url + WEB, json_body=BODY).status == 202


def test_a_function_that_is_down_is_503_at_the_door_and_named_by_health(running: Platform) -> None:
    pid = running.description()["functions"]["request-status"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = wait_for_status(running, "/health", 503)
        assert "request-status" in problem(answer, 503)["detail"]
        assert answer.headers["retry-after"] == "1"
    finally:
        os.kill(pid, signal.SIGKILL)
    down = wait_for_status(running, "/api/v1/requests/one", 503)
    problem(down, 503)
    assert down.headers["retry-after"] == "1"
    running.wait_healthy()


def wait_for_status(platform: Platform, path: str, status: int) -> Answer:
    answers: list[Answer] = []

    def is_it() -> bool:
        answers.append(platform.get(path))
        return answers[-1].status == status

    until(is_it, f"GET {path} is {status}")
    return answers[-1]


def test_postgresql_that_is_killed_comes_back_with_its_data(running: Platform) -> None:
    database = running.description()["database"]
    with psycopg.connect(database["url"], autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")

    os.kill(database["pid"], signal.SIGKILL)

    running.wait_said("postgresql is back")
    with psycopg.connect(database["url"]) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
    running.wait_healthy()


def test_a_second_platform_on_the_same_port_or_state_says_so_in_one_line(running: Platform, start: Start) -> None:
    port = urlsplit(running.url).port
    same_port = start(running.state.parent / "other", PORT=str(port))
    same_state = start(running.state)

    assert same_port.wait() == 1
    assert same_state.wait() == 1
    (line,) = same_port.lines
    assert f"PORT {port} is taken" in line
    (line,) = same_state.lines
    assert f"STATE_DIR {running.state} is used by a platform that is running (process {running.process.pid})" in line
    assert not (running.state.parent / "other").exists()
