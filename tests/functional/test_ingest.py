"""The four ingest functions over real HTTP: what is accepted goes to the broker whole; what is not changes nothing."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.parts.functions import Function
from tests.parts.net import Answer, call, free_port, problem
from tests.parts.recorder import Recorder
from tests.parts.samples import (
    BODIES,
    GATEWAY_SECRET,
    OTHER_TOOL_KEY,
    SLACK_SECRET,
    TOOL_KEY,
    credentials,
    settings_of_ingest,
    slack_headers,
)

INTEGRATIONS = tuple(BODIES)


@pytest.fixture(scope="module")
def functions(recorder: Recorder) -> Iterator[dict[str, Function]]:
    settings = settings_of_ingest(recorder.url)
    with ThreadPoolExecutor() as pool:
        names = [f"ingest-{integration}" for integration in INTEGRATIONS]
        started = dict(zip(INTEGRATIONS, pool.map(lambda name: Function(name, settings), names), strict=True))
    yield started
    for function in started.values():
        function.close()


class Caller:
    """Sends to one ingest function and looks at what it published."""

    def __init__(self, integration: str, function: Function, recorder: Recorder) -> None:
        self.integration = integration
        self.function = function
        self.recorder = recorder
        recorder.clear()

    def send(self, body: Any, *, path: str = "/", headers: dict[str, str] | None = None, **more: str) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        user_id = body.get("user_id", "nobody") if isinstance(body, dict) else "nobody"
        proof = credentials(self.integration, raw, user_id if isinstance(user_id, str) else "nobody")
        given = {"content-type": "application/json", **proof, **(headers or {}), **more}
        return call("POST", self.function.url + path, body=raw, headers=given)

    def refused(self, answer: Answer, status: int) -> dict[str, Any]:
        """The problem of a refusal, after which nothing was published."""
        document = problem(answer, status)
        assert self.recorder.events == []
        return document


@pytest.fixture(params=INTEGRATIONS)
def caller(request: pytest.FixtureRequest, functions: dict[str, Function], recorder: Recorder) -> Caller:
    return Caller(request.param, functions[request.param], recorder)


def of(integration: str, functions: dict[str, Function], recorder: Recorder) -> Caller:
    return Caller(integration, functions[integration], recorder)


class TestAccepted:
    @pytest.mark.parametrize("behind_gateway", [False, True])
    def test_the_documents_body_is_published_whole_and_answered_202(self, caller: Caller, behind_gateway: bool) -> None:
        path = f"/api/v1/requests/{caller.integration}" if behind_gateway else "/"
        answer = caller.send(BODIES[caller.integration], path=path)

        assert answer.status == 202, answer.body
        body = answer.json()
        assert body["status"] == "accepted"
        assert body["status_url"] == answer.headers["location"] == f"/api/v1/requests/{body['request_id']}"
        [event] = caller.recorder.events
        assert event.attribute("type") == "com.self-service-agent.request.created"
        assert event.attribute("source") == f"/self-service-agent/ingest-{caller.integration}"
        assert event.attribute("requestid") == event.attribute("subject") == body["request_id"]
        assert event.attribute("integration") == caller.integration
        assert event.headers["content-type"] == "application/json"
        data = event.data()
        assert data["content"] == BODIES[caller.integration]["content"]
        assert data["user_id"] == BODIES[caller.integration]["user_id"]
        assert data["conversation_key"] == event.attribute("partitionkey")

    def test_the_session_token_goes_no_further(self, functions: dict[str, Function], recorder: Recorder) -> None:
        web = of("web", functions, recorder)
        assert web.send({**BODIES["web"], "session_token": "tell-nobody"}).status == 202
        [event] = recorder.events
        assert b"tell-nobody" not in event.body
        assert "tell-nobody" not in functions["web"].output()

    def test_a_tools_ticket_reaches_the_event(self, functions: dict[str, Function], recorder: Recorder) -> None:
        of("tool", functions, recorder).send(BODIES["tool"])
        assert recorder.events[0].data()["context"]["tool_context"] == {"ticket_id": "INC123456", "priority": "high"}

    def test_the_callers_trace_goes_on(self, caller: Caller) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        caller.send(BODIES[caller.integration], traceparent=trace)
        assert caller.recorder.events[0].attribute("traceparent") == trace

    def test_a_broken_trace_is_replaced(self, caller: Caller) -> None:
        caller.send(BODIES[caller.integration], traceparent="00-evil\tvalue")
        assert caller.recorder.events[0].attribute("traceparent").startswith("00-")
        assert "evil" not in caller.recorder.events[0].attribute("traceparent")

    def test_unicode_and_control_characters_arrive_as_they_were(self, caller: Caller) -> None:
        content = "Größe 💻 \n\t\u202e done"
        assert caller.send({**BODIES[caller.integration], "content": content}).status == 202
        assert caller.recorder.events[0].data()["content"] == content

    def test_two_people_with_one_session_token_are_two_conversations(
        self, functions: dict[str, Function], recorder: Recorder
    ) -> None:
        web = of("web", functions, recorder)
        for user in ("ann", "ben"):
            assert web.send({**BODIES["web"], "user_id": user}).status == 202
        first, second = (event.data()["conversation_key"] for event in recorder.events)
        assert first != second

    def test_two_people_in_one_slack_thread_are_two_conversations_that_may_be_shared(
        self, functions: dict[str, Function], recorder: Recorder
    ) -> None:
        slack = of("slack", functions, recorder)
        for user in ("U1", "U2"):
            assert slack.send({**BODIES["slack"], "slack_user_id": user}).status == 202
        first, second = (event.data() for event in recorder.events)
        assert first["conversation_key"] != second["conversation_key"]
        assert first["shared_key"] == second["shared_key"]


class TestIdempotencyKey:
    def test_the_same_key_of_one_caller_gives_one_id(self, caller: Caller) -> None:
        answers = [caller.send(BODIES[caller.integration], headers={"idempotency-key": "once"}) for _ in range(2)]
        assert len({answer.json()["request_id"] for answer in answers}) == 1
        assert len({event.attribute("id") for event in caller.recorder.events}) == 1

    def test_the_same_key_of_two_callers_gives_two_ids(self, functions: dict[str, Function], recorder: Recorder) -> None:
        web = of("web", functions, recorder)
        ids = {
            web.send({**BODIES["web"], "user_id": user}, headers={"idempotency-key": "once"}).json()["request_id"]
            for user in ("ann", "ben")
        }
        assert len(ids) == 2

    @pytest.mark.parametrize("key", ["", "with space", "x" * 256])
    def test_an_unusable_key_is_named(self, caller: Caller, key: str) -> None:
        document = caller.refused(caller.send(BODIES[caller.integration], headers={"idempotency-key": key}), 422)
        assert document["errors"][0]["loc"] == "header.Idempotency-Key"


class TestBadInput:
    @pytest.mark.parametrize("raw", [b"", b"{", b"nope", b'{"user_id": "\xff"}', b'{"a": NaN}', b"[" * 100_000])
    def test_malformed_json(self, functions: dict[str, Function], recorder: Recorder, raw: bytes) -> None:
        for integration in ("web", "cli", "tool"):
            one = of(integration, functions, recorder)
            one.refused(one.send(raw, headers={"x-user-id": "ann"}), 400)

    def test_malformed_json_that_slack_signed(self, functions: dict[str, Function], recorder: Recorder) -> None:
        slack = of("slack", functions, recorder)
        slack.refused(slack.send(b"{"), 400)

    def test_a_lone_surrogate_is_malformed(self, caller: Caller) -> None:
        raw = json.dumps(BODIES[caller.integration]).replace("laptop", "\\ud800").encode()
        user_id = BODIES[caller.integration]["user_id"]
        caller.refused(caller.send(raw, headers={"x-user-id": user_id} if caller.integration in ("web", "cli") else {}), 400)

    @pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
    def test_wrong_content_type(self, caller: Caller, content_type: str) -> None:
        caller.refused(caller.send(BODIES[caller.integration], headers={"content-type": content_type}), 415)

    @pytest.mark.parametrize("value", [[], "text", 5, None])
    def test_json_that_is_no_object(self, caller: Caller, value: Any) -> None:
        raw = json.dumps(value).encode()
        caller.refused(caller.send(raw), 422)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("user_id", None),
            ("user_id", ""),
            ("user_id", "x" * 257),
            ("content", None),
            ("content", ""),
            ("content", "   "),
            ("content", 5),
            ("content", "x" * 32_001),
            ("content", "with a NUL \x00"),
        ],
    )
    def test_a_wrong_field_is_named(self, caller: Caller, field: str, value: Any) -> None:
        body = {**BODIES[caller.integration], field: value}
        if value is None:
            del body[field]
        proof_user = body["user_id"] if isinstance(body.get("user_id"), str) else "ann"
        extra = {"x-user-id": proof_user or "ann"} if caller.integration in ("web", "cli") else {}
        document = caller.refused(caller.send(body, headers=extra), 422)
        assert f"body.{field}" in [error["loc"] for error in document["errors"]]

    def test_every_wrong_field_is_named_at_once_and_no_value_repeated(
        self, functions: dict[str, Function], recorder: Recorder
    ) -> None:
        tool = of("tool", functions, recorder)
        document = tool.refused(tool.send({"tool_context": "s3cret-value", "content": 7}), 422)
        named = {error["loc"] for error in document["errors"]}
        assert {"body.user_id", "body.content", "body.tool_id", "body.tool_context"} <= named
        assert "s3cret-value" not in json.dumps(document)

    def test_nul_far_inside_a_tools_context_is_found(self, functions: dict[str, Function], recorder: Recorder) -> None:
        tool = of("tool", functions, recorder)
        body = {**BODIES["tool"], "tool_context": {"a": [{"b": "x\x00"}]}}
        document = tool.refused(tool.send(body), 422)
        assert document["errors"][0]["loc"] == "body.tool_context.a.0.b"

    @pytest.mark.parametrize("context", [{"n": 10**30}, {"n": 1e999}])
    def test_numbers_that_no_database_stores(
        self, functions: dict[str, Function], recorder: Recorder, context: dict[str, Any]
    ) -> None:
        tool = of("tool", functions, recorder)
        raw = json.dumps({**BODIES["tool"], "tool_context": context}).replace("Infinity", "1e999").encode()
        assert tool.send(raw).status in (400, 422)
        assert recorder.events == []

    def test_a_body_over_the_limit(self, caller: Caller) -> None:
        body = {**BODIES[caller.integration], "padding": "x" * (256 * 1024)}
        caller.refused(caller.send(body), 413)

    def test_a_gigantic_body_is_refused_while_it_is_sent(self, functions: dict[str, Function], recorder: Recorder) -> None:
        function = functions["web"]
        with socket.create_connection(("127.0.0.1", function.port), timeout=10) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
            head = connection.recv(4096)
        assert head.startswith(b"HTTP/1.1 413")
        assert b"application/problem+json" in head

    def test_broken_http_is_a_problem_too(self, functions: dict[str, Function]) -> None:
        with socket.create_connection(("127.0.0.1", functions["web"].port), timeout=10) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n")
            head = connection.recv(4096)
        assert head.startswith(b"HTTP/1.1 400")
        assert b"application/problem+json" in head

    def test_an_unknown_path(self, caller: Caller) -> None:
        caller.refused(caller.send(BODIES[caller.integration], path="/api/v1/requests/other"), 404)

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
    @pytest.mark.parametrize("path", ["/", "/api/v1/requests/{}"])
    def test_a_wrong_method(self, caller: Caller, method: str, path: str) -> None:
        answer = call(method, caller.function.url + path.format(caller.integration))
        caller.refused(answer, 405)
        assert "POST" in answer.headers["allow"]


class TestWhoAsks:
    def test_a_user_id_that_is_not_the_callers(self, functions: dict[str, Function], recorder: Recorder) -> None:
        for integration in ("web", "cli"):
            one = of(integration, functions, recorder)
            one.refused(one.send(BODIES[integration], headers={"x-user-id": "mallory"}), 403)

    @pytest.mark.parametrize("secret", ["", "wrong", GATEWAY_SECRET + "x"])
    def test_not_through_the_gateway(self, functions: dict[str, Function], recorder: Recorder, secret: str) -> None:
        for integration in ("web", "cli"):
            one = of(integration, functions, recorder)
            one.refused(one.send(BODIES[integration], headers={"x-gateway-secret": secret}), 401)

    def test_a_gateway_that_names_nobody(self, functions: dict[str, Function], recorder: Recorder) -> None:
        web = of("web", functions, recorder)
        web.refused(web.send(BODIES["web"], headers={"x-user-id": ""}), 401)

    @pytest.mark.parametrize("key", ["", "wrong", TOOL_KEY[:-1], "snow-integration"])
    def test_a_wrong_tool_key(self, functions: dict[str, Function], recorder: Recorder, key: str) -> None:
        tool = of("tool", functions, recorder)
        tool.refused(tool.send(BODIES["tool"], headers={"x-api-key": key}), 401)

    def test_another_tools_key(self, functions: dict[str, Function], recorder: Recorder) -> None:
        tool = of("tool", functions, recorder)
        tool.refused(tool.send(BODIES["tool"], headers={"x-api-key": OTHER_TOOL_KEY}), 403)

    def test_an_older_key_of_the_tool_is_good_while_it_is_listed(
        self, functions: dict[str, Function], recorder: Recorder
    ) -> None:
        assert of("tool", functions, recorder).send(BODIES["tool"], headers={"x-api-key": "an-older-key"}).status == 202

    @pytest.mark.parametrize(
        "change",
        [
            {"x-slack-signature": "v0=" + "0" * 64},
            {"x-slack-signature": ""},
            {"x-slack-signature": "v0=ünicode"},
            {"x-slack-request-timestamp": ""},
            {"x-slack-request-timestamp": "now"},
            {"x-slack-request-timestamp": "1e9"},
        ],
    )
    def test_a_wrong_slack_signature(
        self, functions: dict[str, Function], recorder: Recorder, change: dict[str, str]
    ) -> None:
        slack = of("slack", functions, recorder)
        slack.refused(slack.send(BODIES["slack"], headers=change), 401)

    @pytest.mark.parametrize("age", [301, -301])
    def test_a_stale_slack_timestamp(self, functions: dict[str, Function], recorder: Recorder, age: float) -> None:
        slack = of("slack", functions, recorder)
        raw = json.dumps(BODIES["slack"]).encode()
        slack.refused(slack.send(raw, headers=slack_headers(raw, age=age)), 401)

    def test_a_signature_over_another_body(self, functions: dict[str, Function], recorder: Recorder) -> None:
        slack = of("slack", functions, recorder)
        signed = slack_headers(json.dumps(BODIES["slack"]).encode())
        slack.refused(slack.send({**BODIES["slack"], "content": "other"}, headers=signed), 401)

    def test_a_signature_with_another_secret(self, functions: dict[str, Function], recorder: Recorder) -> None:
        slack = of("slack", functions, recorder)
        raw = json.dumps(BODIES["slack"]).encode()
        slack.refused(slack.send(raw, headers=slack_headers(raw, secret=SLACK_SECRET + "x")), 401)

    def test_a_signed_body_that_is_no_utf8(self, functions: dict[str, Function], recorder: Recorder) -> None:
        slack = of("slack", functions, recorder)
        slack.refused(slack.send(b"\xff\xfe"), 401)


class TestNoBroker:
    def test_503_with_retry_after_within_3_s_and_unready(self, functions: dict[str, Function], recorder: Recorder) -> None:
        function = Function("ingest-web", settings_of_ingest(f"http://127.0.0.1:{free_port()}/"), ready=False)
        try:
            web = Caller("web", function, recorder)
            started = time.monotonic()
            answer = web.send(BODIES["web"])
            assert time.monotonic() - started < 3
            problem(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
            assert function.get("/health/readiness").status == 503
            assert function.get("/health/liveness").status == 200
        finally:
            function.close()

    def test_a_broker_that_hangs(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(50)
            function = Function(
                "ingest-web", settings_of_ingest(f"http://127.0.0.1:{silent.getsockname()[1]}/"), ready=False
            )
            try:
                raw = json.dumps(BODIES["web"]).encode()
                headers = {"content-type": "application/json", **credentials("web", raw, "webuser123")}
                started = time.monotonic()
                answer = call("POST", function.url, body=raw, headers=headers)
                assert time.monotonic() - started < 3
                problem(answer, 503)
            finally:
                function.close()

    @pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
    def test_a_broker_that_refuses(self, caller: Caller, status: int) -> None:
        caller.recorder.status = status
        problem(caller.send(BODIES[caller.integration]), 503)

    def test_a_broker_that_comes_back(self, recorder: Recorder) -> None:
        port = free_port()
        function = Function("ingest-web", settings_of_ingest(f"http://127.0.0.1:{port}/"), ready=False)
        try:
            web = Caller("web", function, recorder)
            problem(web.send(BODIES["web"]), 503)
            back = Recorder(port)
            assert web.send(BODIES["web"]).status == 202
            back.close()
            back = Recorder(port)  # the kept-open connection is dead now, which the caller must not notice
            assert web.send(BODIES["web"]).status == 202
            back.close()
        finally:
            function.close()


class TestSlackWithoutSecret:
    def test_every_request_is_refused(self, recorder: Recorder) -> None:
        settings = settings_of_ingest(recorder.url)
        del settings["SLACK_SIGNING_SECRET"]
        function = Function("ingest-slack", settings)
        try:
            slack = Caller("slack", function, recorder)
            raw = json.dumps(BODIES["slack"]).encode()
            slack.refused(slack.send(raw, headers=slack_headers(raw, secret=" ")), 401)
        finally:
            function.close()
