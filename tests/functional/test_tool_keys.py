"""The operator's command for keys and webhook secrets, the functions that use them, and the receiver of docs/examples."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from urllib3.exceptions import HTTPError

from tests.functional.response_dispatch.support import finished, state
from tests.parts.functions import Function
from tests.parts.net import Answer, call, free_port, problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, settings_of_ingest

ROOT = Path(__file__).parents[2]
TOOL = "snow-integration"


class Keys:
    """`python -m infra.keys` on a file."""

    def __init__(self, path: Path, *flags: str) -> None:
        self.path = path
        self._flags = flags

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infra.keys", *arguments, "--file", str(self.path), *self._flags]
        return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def new(self, command: str, tool: str = TOOL) -> str:
        """Create or rotate; the key."""
        ran = self.run(command, tool)
        assert ran.returncode == 0, ran.stderr
        [key] = ran.stdout.splitlines()
        return key

    def content(self) -> Any:
        return json.loads(self.path.read_text())


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "TOOL_KEYS")


@pytest.fixture
def secrets(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "WEBHOOK_SECRETS", "--webhook")


class TestKeys:
    def test_the_content_holds_a_hash_and_the_key_is_shown_once(self, keys: Keys) -> None:
        ran = keys.run("create", TOOL)
        key = ran.stdout.strip()
        assert key.startswith("ssa_")
        assert len(key) == 4 + 43
        assert keys.content().keys() == {TOOL}
        assert key not in keys.path.read_text() + ran.stderr
        assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
        assert key not in keys.run("list").stdout

    def test_a_rotation_keeps_the_old_key_until_it_is_revoked(
        self, keys: Keys, recorder: Recorder, serve: Callable[..., Function]
    ) -> None:
        # GIVEN a tool with a key, and another tool
        old, other = keys.new("create"), keys.new("create", "other")

        def accepted(key: str, tool: str = TOOL) -> int:
            """What ingest-tool, started with the file as it is now, answers."""
            function = serve("ingest-tool", {**settings_of_ingest(recorder.url), "TOOL_KEYS": str(keys.path)})
            body = {**BODIES["tool"], "tool_id": tool}
            status = call("POST", function.url, json_body=body, headers={"x-api-key": key}).status
            function.close()
            return status

        assert accepted(old) == 202
        # WHEN it is rotated, both are good
        ran = keys.run("rotate", TOOL)
        new = ran.stdout.strip()
        assert (datetime.now(UTC) + timedelta(days=7)).strftime("%Y-%m-%d") in ran.stderr
        assert (accepted(old), accepted(new)) == (202, 202)
        # WHEN the old one is revoked, the new one and other tools' are good
        assert keys.run("revoke", TOOL).returncode == 0
        assert (accepted(old), accepted(new), accepted(other, "other")) == (401, 202, 202)
        # WHEN all are revoked, none is
        assert keys.run("revoke", TOOL, "--all").returncode == 0
        assert (accepted(new), accepted(other, "other")) == (401, 202)

    def test_one_key_is_revoked_by_its_hash(self, keys: Keys) -> None:
        keys.new("create")
        keys.new("rotate")
        first, second = keys.content()[TOOL]
        shown = keys.run("list", TOOL).stdout.splitlines()
        assert [line.split()[1:] for line in shown] == [[first[7:19]], [second[7:19], "newest"]]
        assert keys.run("revoke", TOOL, "--hash", second[7:19]).returncode == 0
        assert keys.content() == {TOOL: [first]}

    @pytest.mark.parametrize(
        "arguments",
        [
            ("rotate", "unknown"),
            ("revoke", "unknown"),
            ("list", "unknown"),
            ("create", TOOL),
            ("create", " "),
            ("create", "x" * 129),
            ("revoke", TOOL),
            ("revoke", TOOL, "--hash", "12345"),
            ("revoke", TOOL, "--hash", "0000000000000"),
        ],
    )
    def test_what_cannot_be_done_is_one_line_and_changes_nothing(self, keys: Keys, arguments: tuple[str, ...]) -> None:
        keys.new("create")
        before = keys.path.read_text()
        ran = keys.run(*arguments)
        assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (1, "", 1)
        assert keys.path.read_text() == before

    @pytest.mark.parametrize("text", ["{", "[]", '{"a": 5}', '{"a": [5]}', "\x00"])
    def test_another_content_is_not_touched(self, keys: Keys, text: str) -> None:
        keys.path.write_text(text)
        assert keys.run("create", TOOL).returncode == 1
        assert keys.path.read_text() == text

    def test_through_a_pipe_the_content_is_all_of_standard_output(self) -> None:
        command = [sys.executable, "-m", "infra.keys", "rotate", TOOL]
        before = json.dumps({TOOL: ["sha256:" + "0" * 64]})
        ran = subprocess.run(command, cwd=ROOT, input=before, capture_output=True, text=True, check=True)
        after = json.loads(ran.stdout)
        assert after[TOOL][0] == "sha256:" + "0" * 64
        assert len(after[TOOL]) == 2
        assert sum(line.startswith("ssa_") for line in ran.stderr.splitlines()) == 1


class Receiver:
    """docs/examples/webhook_receiver.py in its own process, outside of the repository."""

    def __init__(self, secrets: str, directory: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "docs/examples/webhook_receiver.py")],
            cwd=directory,
            env={**os.environ, "WEBHOOK_SECRET": secrets, "PORT": str(port), "PYTHONPATH": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.taken: list[Any] = []
        self.answered: list[str] = []
        threads = [threading.Thread(target=self._read_out), threading.Thread(target=self._read_err)]
        self._threads = threads
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while True:
            try:
                assert call("POST", self.url).status == 401
                return
            except HTTPError:
                assert time.monotonic() < deadline, "the receiver does not listen"
                time.sleep(0.05)

    def _read_out(self) -> None:
        assert self.process.stdout
        self.taken.extend(json.loads(line) for line in self.process.stdout)

    def _read_err(self) -> None:
        assert self.process.stderr
        self.answered.extend(line.strip() for line in self.process.stderr)

    def close(self) -> list[Any]:
        """End it; what it took."""
        self.process.terminate()
        self.process.wait(10)
        for thread in self._threads:
            thread.join(10)
        return self.taken


@pytest.fixture
def receive(tmp_path: Path) -> Iterator[Callable[[str], Receiver]]:
    started: list[Receiver] = []

    def start(secrets: str) -> Receiver:
        started.append(Receiver(secrets, tmp_path))
        return started[-1]

    yield start
    for receiver in started:
        receiver.close()


class TestReceiver:
    """The example as integrators copy it."""

    SECRET = "whsec_c2VjcmV0IG9mIHR3ZW50eS1mb3VyIGJ5dGVzIQ=="  # pragma: allowlist secret
    BODY = json.dumps({"data": {"request_id": "r", "status": "completed", "content": "c", "tool_context": {}}})

    def post(
        self, receiver: Receiver, *, age: float = 0, secret: str = SECRET, body: str = BODY, sent: str = BODY
    ) -> Answer:
        at = datetime.now(UTC) - timedelta(seconds=age)
        headers = {
            "webhook-id": "r.response",
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign("r.response", at, body),
        }
        return call("POST", receiver.url, body=sent.encode(), headers=headers)

    def test_it_takes_an_answer_once_and_says_so_each_time(self, receive: Callable[[str], Receiver]) -> None:
        receiver = receive(self.SECRET)
        assert [self.post(receiver).status for _ in range(3)] == [204, 204, 204]
        assert [one["request_id"] for one in receiver.close()] == ["r"]

    def test_it_refuses_another_secret_another_body_and_what_is_older_than_5_minutes(
        self, receive: Callable[[str], Receiver]
    ) -> None:
        receiver = receive(self.SECRET)
        other = "whsec_" + "b3RoZXI" * 4
        assert self.post(receiver, secret=other).status == 401
        assert self.post(receiver, sent=self.BODY.replace("completed", "failed")).status == 401
        assert self.post(receiver, age=310).status == 401
        assert self.post(receiver, age=-310).status == 401
        assert call("POST", receiver.url, body=b"\xff", headers={"webhook-id": "x"}).status == 401
        assert receiver.close() == []


class TestFromDispatchToReceiver:
    """response-dispatch with the secrets file that the command wrote, and the example."""

    @pytest.fixture
    def send(
        self, secrets: Keys, postgres: Postgres, serve: Callable[..., Function]
    ) -> Callable[[Receiver], tuple[Function, Answer]]:
        def one(receiver: Receiver) -> tuple[Function, Answer]:
            """The function, started with the file as it is, and its answer to a response-ready event."""
            postgres.empty()
            postgres.query(
                "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', 'snow', %s)",
                json.dumps({"webhook_url": receiver.url}),
            )
            environment = {"WEBHOOK_SECRETS": str(secrets.path), "WEBHOOK_URLS_ALLOWED": receiver.url}
            function = serve("response-dispatch", {**postgres.environment(), **environment})
            return function, function.post_event(finished(postgres, "tool"))

        return one

    def test_an_answer_arrives_with_its_ticket(
        self, secrets: Keys, receive: Callable[[str], Receiver], send: Callable[[Receiver], tuple[Function, Answer]]
    ) -> None:
        receiver = receive(secrets.new("create", "snow"))
        assert send(receiver)[1].status == 204
        [taken] = receiver.close()
        assert (taken["content"], taken["tool_context"]) == ("the answer", {"ticket_id": "INC1"})

    def test_during_a_rotation_a_receiver_with_the_old_and_one_with_the_new_secret_both_verify(
        self, secrets: Keys, receive: Callable[[str], Receiver], send: Callable[[Receiver], tuple[Function, Answer]]
    ) -> None:
        old = secrets.new("create", "snow")
        new = secrets.new("rotate", "snow")
        for secret in (old, new):
            receiver = receive(secret)
            assert send(receiver)[1].status == 204
            assert len(receiver.close()) == 1
        # WHEN the old one is revoked, who has only that refuses; who has both takes it
        assert secrets.run("revoke", "snow").returncode == 0
        late, ready = receive(old), receive(f"{old} {new}")
        problem(send(late)[1], 422)
        assert late.close() == []
        assert send(ready)[1].status == 204
        assert len(ready.close()) == 1

    def test_a_wrong_secret_is_refused_and_said_so(
        self, secrets: Keys, receive: Callable[[str], Receiver], send: Callable[[Receiver], tuple[Function, Answer]],
        postgres: Postgres,
    ) -> None:  # fmt: skip
        secrets.new("create", "snow")
        receiver = receive(TestReceiver.SECRET)
        function, answer = send(receiver)
        assert problem(answer, 422)["detail"] == "The webhook answered 401."
        assert state(postgres)[1] is False
        assert receiver.close() == []
        assert secrets.content()["snow"][0] not in function.output()
