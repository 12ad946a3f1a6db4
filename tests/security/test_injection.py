"""Text is data: what people write is stored and shown as it was, and is never SQL, a log line, a header or a format."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.parts.events import PREFIX, request_created
from tests.parts.functions import Event, Function
from tests.parts.net import Answer, call
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, TOOL_KEY, slack_headers

NASTY = (
    "'; DROP TABLE request_logs; --",
    "x' OR '1'='1",
    "$$; TRUNCATE request_sessions; $$",
    "\\'; SELECT pg_sleep(10); --",
    "%s %(request_id)s %% {0} {user_id} {self.__class__} ${HOME} $(id) `id`",
    'one\r\n{"level": "ERROR", "message": "forged"}\r\n',
    "\x1b[2J\x1b]0;owned\x07\x08\x7f",
    "\u2028\u2029\x85\x9b31m\u202e\ufeff",
    '"}], "x": {"',
    "${jndi:ldap://127.0.0.1/x} {{7*7}} <script>alert(1)</script>",
    "\U0001f4bb 𝕏 ẞ",
)
# Fields whose text is a choice or an id of another form; what they refuse is told in functional/ingest/test_bad_input.py.
TABLES = ("request_logs", "request_sessions", "integration_configs", "dead_letters")


@pytest.fixture
def functions(open_functions: dict[str, Function]) -> dict[str, Function]:
    return open_functions


@pytest.fixture
def recorder(open_broker: Recorder) -> Recorder:
    return open_broker


def send(function: Function, body: dict[str, Any], **headers: str) -> Answer:
    raw = json.dumps(body).encode()
    proof = {"ingest-slack": slack_headers(raw), "ingest-tool": {"x-api-key": TOOL_KEY}}.get(function.name, {})
    return call("POST", function.url, body=raw, headers={"content-type": "application/json", **proof, **headers})


def variants(value: Any, text: str) -> Iterator[Any]:
    """The value with `text` in place of one of the texts in it, or as a key, each in turn."""
    if isinstance(value, str):
        yield text
    elif isinstance(value, dict):
        for key, item in value.items():
            for changed in variants(item, text):
                yield {**value, key: changed}
        yield {**value, text: "a key"}
    elif isinstance(value, list):
        for index, item in enumerate(value):
            for changed in variants(item, text):
                yield [*value[:index], changed, *value[index + 1 :]]


def lines_are_whole(function: Function) -> None:
    """Every line of output is one JSON object, without a character that a terminal would obey."""
    output = function.output()
    for line in output.split("\n")[:-1]:
        assert isinstance(json.loads(line), dict), line
        assert line.isascii(), line
        assert all(" " <= character < "\x7f" for character in line), line
    messages = {json.loads(line)["message"] for line in output.splitlines()}
    assert "forged" not in messages


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
@pytest.mark.parametrize("integration", BODIES)
def test_every_field_arrives_as_it_was_and_breaks_nothing(
    functions: dict[str, Function], recorder: Recorder, postgres: Postgres, integration: str, text: str
) -> None:
    ingest, upsert, status = (functions[name] for name in (f"ingest-{integration}", "session-upsert", "request-status"))
    recorder.clear()
    for body in variants(BODIES[integration], text):
        answer = send(ingest, body)
        assert answer.status in (202, 403, 422), answer  # 403: another tool's id; 422: too long
        assert text not in answer.body.decode()
    assert recorder.events
    for event in recorder.events:
        for name, value in event.headers.items():
            assert value.isascii(), name
            assert value.isprintable(), name
        data = event.data()
        reply = upsert.post_event(event)
        assert reply.status == 200, reply.body
        [stored] = postgres.query(
            "SELECT request_content, user_id, normalized_request FROM request_logs WHERE request_id = %s", data["request_id"]
        )
        assert stored == (data["content"], data["user_id"], data)
        shown = status.get(f"/api/v1/sessions/{Event.of(reply).attribute('sessionid')}")
        assert shown.status == 200
        assert data["content"] in [message["content"] for message in shown.json()["messages"]]
    assert {data["content"] for data in (event.data() for event in recorder.events)} >= {text.strip()}
    for table in TABLES:
        assert postgres.query("SELECT to_regclass(%s) IS NOT NULL", table) == [(True,)]
    for function in (ingest, upsert, status):
        lines_are_whole(function)


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_what_an_event_says_of_itself_breaks_nothing(
    functions: dict[str, Function], recorder: Recorder, postgres: Postgres, text: str
) -> None:
    """Events in structured mode: their attributes can hold what no header can."""
    recorder.clear()
    good = request_created()
    whole = {name[3:]: value for name, value in good.headers.items() if name.startswith("ce-")}
    texts = ("id", "source", "subject", "requestid", "integration", "partitionkey", "traceparent", "dataschema")
    fields = [name for name, value in good.data().items() if isinstance(value, str)]
    attributes = [({**whole, name: text}, good.data()) for name in texts]
    attributes += [({**whole, "knativeerrordest": text, "knativeerrorcode": text, "knativeerrordata": text}, good.data())]
    attributes += [(whole, {**good.data(), name: text}) for name in fields]
    for function in (functions[name] for name in ("session-upsert", "dead-letter", "response-dispatch")):
        for head, data in attributes:
            body = json.dumps({**head, "data": data}).encode()
            answer = call("POST", function.url, body=body, headers={"content-type": "application/cloudevents+json"})
            assert answer.status != 500, (function.name, head, data, answer)
            assert text not in answer.body.decode() or answer.headers.get("ce-type"), answer
            assert not {"x-evil", "set-cookie"} & set(answer.headers)
        lines_are_whole(function)
    for event in recorder.events:  # what dead-letter sent again
        assert all(value.isascii() and value.isprintable() for value in event.headers.values())
    for table in TABLES:
        assert postgres.query("SELECT to_regclass(%s) IS NOT NULL", table) == [(True,)]


LINE_BREAKS = (
    "a\r\nx-evil: 1",
    "a\nx-evil: 1",
    "a\rx-evil: 1",
    "a\r\n\tx-evil: 1",
    "a\x00b",
    "a%0d%0ax-evil: 1",
    "a\x0bx-evil: 1",
)


@pytest.mark.parametrize("value", LINE_BREAKS)
@pytest.mark.parametrize(
    "name", ["Idempotency-Key", "traceparent", "X-User-Id", "X-Request-Id", "X-Forwarded-For", "X-API-Key"]
)
def test_no_header_makes_another(functions: dict[str, Function], recorder: Recorder, name: str, value: str) -> None:
    recorder.clear()
    body = json.dumps({**BODIES["web"], "user_id": "a"}).encode()
    head = (
        f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{name}: {value}\r\n"
    )
    with socket.create_connection(("127.0.0.1", functions["ingest-web"].port), timeout=10) as connection:
        connection.sendall(head.encode("latin-1") + b"Connection: close\r\n\r\n" + body)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    status, _, rest = answer.partition(b"\r\n")
    assert status.split()[1] in (b"202", b"400", b"403", b"422"), answer
    assert b"x-evil" not in rest.lower()
    for event in recorder.events:
        assert "x-evil" not in event.headers
        assert b"x-evil" not in event.body
        assert "x-evil" not in str(event.headers)
    lines_are_whole(functions["ingest-web"])


@pytest.mark.parametrize("answered", ["'; DROP TABLE request_logs; --", "\x1b[2J", "a\r\nx-evil: 1", "%s {0}"])
def test_an_agents_answer_is_data_too(
    functions: dict[str, Function], recorder: Recorder, postgres: Postgres, answered: str
) -> None:
    functions["session-upsert"].post_event(request_created(request_id="r1"))
    postgres.query(
        "UPDATE request_logs SET status = 'completed', response_content = %s, completed_at = now(), agent_id = %s",
        answered,
        answered,
    )
    shown = functions["request-status"].get("/api/v1/requests/r1")
    assert (shown.json()["response"]["content"], shown.json()["agent_id"]) == (answered, answered)
    stream = functions["request-status"].get("/api/v1/requests/r1/events").body.decode()
    data = [line.removeprefix("data: ") for line in stream.split("\n") if line.startswith("data: ")]
    assert [json.loads(one)["response"]["content"] for one in data] == [answered]
    lines_are_whole(functions["request-status"])


def test_the_prefix_of_the_types_is_no_pattern(functions: dict[str, Function], postgres: Postgres) -> None:
    for event_type in (PREFIX + "request_created", PREFIX.replace(".", "x") + "request.created", PREFIX + "%"):
        assert functions["session-upsert"].post_event(request_created().but(type=event_type)).status == 400
