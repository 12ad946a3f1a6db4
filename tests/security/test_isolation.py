"""One person's requests and sessions are closed to everybody else, whichever way they try."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parts.events import request_created
from tests.parts.functions import Event, Function
from tests.parts.net import Answer, call, problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, GATEWAY_SECRET, OTHER_TOOL_KEY, TOOL_KEY, TOOL_KEYS, settings_of_ingest
from tests.security.conftest import started
from tests.security.issuer import AUDIENCE, Issuer


@pytest.fixture(scope="module")
def functions(issuer_server: Issuer, recorder: Recorder, postgres_server: Postgres) -> Iterator[dict[str, Function]]:
    jwt = {
        "AUTH_MODE": "jwt",
        "JWT_JWKS_URL": issuer_server.jwks_url,
        "JWT_ISSUER": issuer_server.url,
        "JWT_AUDIENCE": AUDIENCE,
        "TOOL_KEYS": TOOL_KEYS,
    }
    settings = {**postgres_server.environment(), **settings_of_ingest(recorder.url), **jwt}
    yield from started(("request-status", "session-upsert", "ingest-web"), settings)


@pytest.fixture
def session_id(functions: dict[str, Function], postgres: Postgres) -> str:
    """Ann's session, with the finished request anns-request."""
    created = request_created(request_id="anns-request", user_id="ann", content="ann's secret")
    reply = Event.of(functions["session-upsert"].post_event(created))
    postgres.query("UPDATE request_logs SET status = 'completed', response_content = 'for ann', completed_at = now()")
    return reply.attribute("sessionid")


def read(functions: dict[str, Function], path: str, **headers: str) -> Answer:
    return functions["request-status"].get(path, **headers)


def paths(session_id: str) -> tuple[str, ...]:
    return (
        "/api/v1/requests/anns-request",
        "/api/v1/requests/anns-request?wait=1",
        "/api/v1/requests/anns-request/events",
        "/api/v1/requests/anns-request/trace",
        f"/api/v1/sessions/{session_id}",
        f"/api/v1/sessions/{session_id.upper()}",
        f"/api/v1/sessions/{{{session_id}}}",
        f"/api/v1/sessions/{session_id.replace('-', '')}",
    )


def test_its_owner_reads_it(functions: dict[str, Function], issuer: Issuer, session_id: str) -> None:
    for path in paths(session_id):
        answer = read(functions, path, authorization=f"Bearer {issuer.token('ann')}")
        assert answer.status == 200
        assert (b"for ann" in answer.body) is not path.endswith("/trace")


@pytest.mark.parametrize("who", ["mallory", "Ann", "ann ", " ann", "ann@", "an", "ann,mallory", "%", "ann\u200b", "аnn"])
def test_anybody_else_is_403_and_reads_nothing(
    functions: dict[str, Function], issuer: Issuer, session_id: str, who: str
) -> None:
    for path in paths(session_id):
        answer = read(functions, path, authorization=f"Bearer {issuer.token(who)}", last_event_id="2")
        problem(answer, 403)
        assert b"for ann" not in answer.body


def test_a_tool_reads_no_persons_request_and_a_person_no_other_tools(
    functions: dict[str, Function], issuer: Issuer, session_id: str, postgres: Postgres
) -> None:
    for path in paths(session_id):
        problem(read(functions, path, x_api_key=TOOL_KEY), 403)
    postgres.empty()
    created = request_created(
        request_id="anns-request", user_id="ann", integration_type="tool", integration_key="snow-integration"
    )
    of_tool = Event.of(functions["session-upsert"].post_event(created)).attribute("sessionid")
    for path in ("/api/v1/requests/anns-request", f"/api/v1/sessions/{of_tool}"):
        problem(read(functions, path, x_api_key=OTHER_TOOL_KEY), 403)
        problem(read(functions, path, authorization=f"Bearer {issuer.token('mallory')}"), 403)
        assert read(functions, path, x_api_key=TOOL_KEY).status == 200


def test_a_wrong_key_beside_a_good_token_is_401(functions: dict[str, Function], issuer: Issuer, session_id: str) -> None:
    for path in paths(session_id):
        for key in ("wrong", "", TOOL_KEY[:-1]):
            problem(read(functions, path, x_api_key=key, authorization=f"Bearer {issuer.token('ann')}"), 401)


def test_headers_that_other_modes_believe_are_not_believed(functions: dict[str, Function], session_id: str) -> None:
    for path in paths(session_id):
        problem(read(functions, path, x_user_id="ann", x_gateway_secret=GATEWAY_SECRET), 401)
        problem(read(functions, path, x_forwarded_user="ann", cookie="user=ann"), 401)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_written(
    functions: dict[str, Function], issuer: Issuer, session_id: str, postgres: Postgres, method: str
) -> None:
    before = postgres.query("SELECT * FROM request_logs, request_sessions")
    for path in paths(session_id):
        headers = {"authorization": f"Bearer {issuer.token('ann')}"}
        problem(call(method, functions["request-status"].url + path, json_body={}, headers=headers), 405)
    assert postgres.query("SELECT * FROM request_logs, request_sessions") == before


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/requests/../../../etc/passwd",
        "/api/v1/requests/%2e%2e/%2e%2e/etc/passwd",
        "/api/v1/requests/..%2f..%2f..%2fetc%2fpasswd",
        "/api/v1/requests/%00",
        "/api/v1/requests/anns-request%00",
        "/api/v1/requests/anns-request%20",
        "/api/v1/requests/%61%6e%6es-request/../none",
        "/api/v1/requests/%27%20OR%201=1--",
        "/api/v1/requests/%25",
        "/api/v1/requests/%ff%fe",
        "/api/v1/requests/*",
        "/api/v1/sessions/..%2frequests%2fanns-request",
        "/api/v1/sessions/%00",
        "//api/v1/requests/none",
        "/static/../func.py",
        "/static/%2e%2e/func.py",
        "/func.py",
        "/.env",
        "/api/v1/requests/" + "x" * 8000,
    ],
)
def test_a_path_leads_nowhere_else(functions: dict[str, Function], issuer: Issuer, session_id: str, path: str) -> None:
    answer = read(functions, path, authorization=f"Bearer {issuer.token('ann')}")
    assert answer.status in (308, 400, 404), answer
    assert b"for ann" not in answer.body
    assert b"root:" not in answer.body
    assert b"import" not in answer.body
    if answer.status == 308:  # slashes that were too many; never to another host
        assert answer.headers["location"].startswith((functions["request-status"].url + "/", "/api"))


def test_a_session_token_of_another_does_not_open_their_conversation(
    functions: dict[str, Function], issuer: Issuer, recorder: Recorder, postgres: Postgres
) -> None:
    recorder.clear()
    for user in ("ann", "mallory"):
        body = {**BODIES["web"], "user_id": user, "session_token": "anns-token"}
        headers = {"authorization": f"Bearer {issuer.token(user)}"}
        assert call("POST", functions["ingest-web"].url, json_body=body, headers=headers).status == 202
    anns, mallorys = (functions["session-upsert"].post_event(event) for event in recorder.events)
    assert Event.of(anns).attribute("sessionid") != Event.of(mallorys).attribute("sessionid")
    assert postgres.query("SELECT user_id FROM request_sessions ORDER BY user_id") == [("ann",), ("mallory",)]


def test_an_idempotency_key_of_another_does_not_give_their_request(
    functions: dict[str, Function], issuer: Issuer, recorder: Recorder
) -> None:
    recorder.clear()
    ids = set()
    for user in ("ann", "mallory"):
        headers = {"authorization": f"Bearer {issuer.token(user)}", "idempotency-key": "anns-key"}
        body = {**BODIES["web"], "user_id": user}
        ids.add(call("POST", functions["ingest-web"].url, json_body=body, headers=headers).json()["request_id"])
    assert len(ids) == 2


def test_a_request_id_cannot_be_chosen(functions: dict[str, Function], issuer: Issuer, recorder: Recorder) -> None:
    """Regression: who sent an old request_id wrote over its answer."""
    recorder.clear()
    body = {**BODIES["web"], "user_id": "mallory", "request_id": "anns-request", "conversation_key": "c", "session_id": "s"}
    headers = {"authorization": f"Bearer {issuer.token('mallory')}", "x-request-id": "anns-request"}
    answer = call("POST", functions["ingest-web"].url, json_body=body, headers=headers)
    assert answer.json()["request_id"] != "anns-request"
    assert b"anns-request" not in recorder.events[0].body
