"""The four ingest functions over real HTTP: who is not who they say is refused, and nothing is published."""

from __future__ import annotations

import json

import pytest

from tests.functional.ingest.support import Caller, of
from tests.parts.functions import Function
from tests.parts.recorder import Recorder
from tests.parts.samples import (
    BODIES,
    GATEWAY_SECRET,
    OTHER_TOOL_KEY,
    SLACK_SECRET,
    TOOL_KEY,
    settings_of_ingest,
    slack_headers,
)


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
