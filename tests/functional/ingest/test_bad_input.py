"""The four ingest functions over real HTTP: what is malformed, wrong or too large is named, and changes nothing."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.functional.ingest.support import Caller, of
from tests.parts.functions import Function
from tests.parts.net import call
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES


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
