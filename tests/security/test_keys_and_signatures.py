"""Keys and signatures: compared in constant time, good for one thing and one time only."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import slack_sdk.signature
import standardwebhooks.webhooks

from tests.parts.functions import ROOT, Function
from tests.parts.net import Answer, call, problem
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, GATEWAY_SECRET, SLACK_SECRET, settings_of_ingest, sha256, slack_headers

VERIFIERS = {
    "common/auth.py": "_Gateway",
    "common/tool_keys.py": "ToolKeys",
    "common/events_auth.py": "_SharedToken",
}
# What must never be compared by ==, in, startswith …: such a comparison ends at the first byte that differs.
SECRET_NAMES = {"secret", "token", "key", "signature", "digest", "known", "given", "_secret", "_token", "expected"}
KEYS = {
    "snow": ["key-of-snow-0123456789"],
    "snow-integration": ["key-of-snow-integration-0123456789", "older-key-of-snow-integration"],
    "integration": ["key-of-integration-0123456789"],
}


class TestConstantTime:
    @pytest.mark.parametrize(("path", "name"), VERIFIERS.items())
    def test_compare_digest_decides(self, path: str, name: str) -> None:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        [verifier] = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name]
        calls = {ast.unparse(node.func) for node in ast.walk(verifier) if isinstance(node, ast.Call)}
        assert "hmac.compare_digest" in calls
        for node in ast.walk(verifier):
            if isinstance(node, ast.Compare):
                assert not names_in(node) & SECRET_NAMES, ast.unparse(node)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in {"startswith", "endswith", "find", "index", "fullmatch"}, ast.unparse(node)

    def test_every_known_key_is_compared_whichever_fits(self) -> None:
        """The time does not say which tool's key was nearly right: the loop has no way out."""
        tree = ast.parse((ROOT / "common/tool_keys.py").read_text(encoding="utf-8"))
        [loop] = [node for node in ast.walk(tree) if isinstance(node, ast.For)]
        assert not [node for node in ast.walk(loop) if isinstance(node, ast.Return | ast.Break | ast.Raise)]

    def test_the_libraries_do_so_too(self) -> None:
        assert "hmac.compare_digest" in inspect.getsource(slack_sdk.signature.SignatureVerifier.is_valid)
        assert "hmac.compare_digest" in inspect.getsource(standardwebhooks.webhooks.Webhook.verify)

    def test_nobody_else_compares_secrets(self) -> None:
        """A new verifier belongs into the list above."""
        users = {
            str(path.relative_to(ROOT))
            for folder in ("common", "functions")
            for path in (ROOT / folder).rglob("*.py")
            if "compare_digest" in path.read_text(encoding="utf-8")
        }
        assert users == set(VERIFIERS)


def names_in(node: ast.AST) -> set[str]:
    """The last part of every name that is compared; `x is None` and `not x` are no comparison of values."""
    if isinstance(node, ast.Compare) and all(isinstance(one, ast.Is | ast.IsNot) for one in node.ops):
        return set()
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return found | {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}


@pytest.fixture(scope="module")
def tool(recorder: Recorder) -> Iterator[Function]:
    keys = json.dumps({name: [sha256(key) for key in several] for name, several in KEYS.items()})
    function = Function("ingest-tool", {**settings_of_ingest(recorder.url), "TOOL_KEYS": keys})
    yield function
    function.close()


@pytest.fixture(scope="module")
def slack(recorder: Recorder) -> Iterator[Function]:
    function = Function("ingest-slack", settings_of_ingest(recorder.url))
    yield function
    function.close()


class TestToolKey:
    @staticmethod
    def ask(tool: Function, key: str, tool_id: str) -> Answer:
        return call("POST", tool.url, json_body={**BODIES["tool"], "tool_id": tool_id}, headers={"x-api-key": key})

    @pytest.mark.parametrize("owner", KEYS)
    @pytest.mark.parametrize("claimed", KEYS)
    def test_regression_a_key_was_matched_by_substring_of_the_tools_name(
        self, tool: Function, recorder: Recorder, owner: str, claimed: str
    ) -> None:
        recorder.clear()
        for key in KEYS[owner]:
            answer = self.ask(tool, key, claimed)
            assert answer.status == (202 if owner == claimed else 403), answer.body
        assert len(recorder.events) == (len(KEYS[owner]) if owner == claimed else 0)

    @pytest.mark.parametrize("claimed", ["snow-", "SNOW", "snow ", "snow\u200b", "*", "snow*"])
    def test_a_tools_id_is_compared_whole(self, tool: Function, recorder: Recorder, claimed: str) -> None:
        recorder.clear()
        problem(self.ask(tool, KEYS["snow"][0], claimed), 403)
        assert recorder.events == []

    @pytest.mark.parametrize(
        "key",
        [
            "snow",
            "snow-integration",
            sha256(KEYS["snow"][0]),
            sha256(KEYS["snow"][0]).removeprefix("sha256:"),
            KEYS["snow"][0][:-1],
            KEYS["snow"][0] + "0",
            KEYS["snow"][0].upper(),
            f"{KEYS['snow'][0]}, {KEYS['snow'][0]}",
            "*",
            "null",
        ],
    )
    def test_what_is_near_a_key_is_no_key(self, tool: Function, recorder: Recorder, key: str) -> None:
        recorder.clear()
        problem(self.ask(tool, key, "snow"), 401)
        assert recorder.events == []

    def test_without_keys_every_key_is_refused(self, recorder: Recorder) -> None:
        settings = settings_of_ingest(recorder.url)
        del settings["TOOL_KEYS"]
        function = Function("ingest-tool", settings)
        try:
            for key in ("", "any", sha256("")):
                problem(self.ask(function, key, "snow"), 401)
        finally:
            function.close()


class TestSlackReplay:
    """A request that Slack once signed, caught and sent again."""

    BODY = json.dumps(BODIES["slack"]).encode()

    def send(self, slack: Function, headers: dict[str, str], body: bytes = BODY) -> Answer:
        return call("POST", slack.url, body=body, headers={"content-type": "application/json", **headers})

    def test_within_five_minutes_it_is_accepted(self, slack: Function) -> None:
        assert self.send(slack, slack_headers(self.BODY, age=290)).status == 202

    @pytest.mark.parametrize("age", [301, 3600, 10**8, -301, -3600])
    def test_after_five_minutes_it_is_401(self, slack: Function, recorder: Recorder, age: float) -> None:
        recorder.clear()
        problem(self.send(slack, slack_headers(self.BODY, age=age)), 401)
        assert recorder.events == []

    def test_the_time_cannot_be_made_new(self, slack: Function, recorder: Recorder) -> None:
        recorder.clear()
        caught = slack_headers(self.BODY, age=400)
        now = slack_headers(self.BODY)["x-slack-request-timestamp"]
        old = caught["x-slack-request-timestamp"]
        for timestamp in (now, f"{now}, {old}", f"{old}, {now}", f"{now} ", f"+{now}", f"{now}.0", f"0{now}"):
            problem(self.send(slack, {**caught, "x-slack-request-timestamp": timestamp}), 401)
        assert recorder.events == []

    def test_a_form_is_verified_as_the_document_is(self, slack: Function, recorder: Recorder) -> None:
        """Regression: slash commands were not verified."""
        recorder.clear()
        form = b"command=%2Fagent&text=hello&user_id=U1&channel_id=C1&team_id=T1&trigger_id=1.2"
        headers = {"content-type": "application/x-www-form-urlencoded"}
        by_others = slack_headers(form, secret=SLACK_SECRET[::-1])
        for proof in ({}, slack_headers(b""), by_others, slack_headers(form, age=301)):
            problem(self.send(slack, {**headers, **proof}, form), 401)
        assert recorder.events == []

    def test_the_signature_is_asked_for_before_the_body_is_judged(self, slack: Function) -> None:
        for body in (b"", b"{", b'{"type": "url_verification", "challenge": "x"}', b"payload=%7B"):
            problem(self.send(slack, {}, body), 401)

    def test_an_empty_secret_is_no_secret(self, recorder: Recorder) -> None:
        for empty in ("", "  "):
            function = Function("ingest-slack", {**settings_of_ingest(recorder.url), "SLACK_SIGNING_SECRET": empty})
            try:
                for guess in ("", empty, SLACK_SECRET):
                    problem(self.send(function, slack_headers(self.BODY, secret=guess)), 401)
            finally:
                function.close()


class TestGateway:
    def test_a_secret_from_a_mounted_file_is_its_content_not_its_path(self, recorder: Recorder, tmp_path: Path) -> None:
        mounted = tmp_path / "secret"
        mounted.write_text(f"{GATEWAY_SECRET}\n")
        function = Function("ingest-web", {**settings_of_ingest(recorder.url), "GATEWAY_SECRET": str(mounted)})
        try:
            for secret, status in ((str(mounted), 401), (GATEWAY_SECRET, 202), ("", 401)):
                headers = {"x-gateway-secret": secret, "x-user-id": "webuser123"}
                assert call("POST", function.url, json_body=BODIES["web"], headers=headers).status == status
        finally:
            function.close()

    @pytest.mark.parametrize("name", ["ingest-web", "ingest-cli", "request-status"])
    @pytest.mark.parametrize("cluster", ["KUBERNETES_SERVICE_HOST", "K_SERVICE"])
    def test_nobody_verified_is_refused_in_a_cluster(self, name: str, cluster: str) -> None:
        from tests.functional.test_host import start_badly

        ended = start_badly(name, AUTH_MODE="none", **{cluster: "x"})
        assert ended.returncode == 78
        assert "AUTH_MODE" in ended.stderr

    @pytest.mark.parametrize("name", ["ingest-web", "ingest-cli", "request-status"])
    def test_the_mode_is_gateway_unless_another_is_set(self, name: str) -> None:
        from tests.functional.test_host import start_badly

        assert "GATEWAY_SECRET" in start_badly(name, AUTH_MODE="").stderr
