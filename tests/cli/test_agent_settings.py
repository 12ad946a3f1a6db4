"""Where the command's settings come from, what it sends to prove who asks, and what it does when the way is bad."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra.cli.sse import Event, parse
from tests.cli.support import ROOT, Person

ID = "3f1c2f0e-0000-4000-8000-000000000001"


class Server:
    """A server that keeps what it is sent and says what the test wants: for the ways a network and a server can be bad."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: list[tuple[int, dict[str, str], Any]] = []
        self.cut = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.requests.append((self.command, self.path, headers, json.loads(raw) if raw else None))
                if server.cut:  # it was heard, and nobody knows
                    server.cut -= 1
                    self.connection.close()
                    return
                status, extra, body = server.answers.pop(0) if server.answers else (202, {}, {"request_id": ID})
                out = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**extra, "content-length": str(len(out))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(out)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, format: str, *args: object) -> None:
                """Tests read `requests` instead."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.fixture
def person(server: Server, tmp_path: Path) -> Person:
    return Person(tmp_path / "home", server.url)


def problem(status: int, detail: str) -> dict[str, Any]:
    return {"type": "urn:x", "title": "x", "status": status, "detail": detail}


class TestOneRequest:
    def test_a_post_that_was_cut_off_or_refused_for_now_is_sent_again_with_its_key(
        self, person: Person, server: Server
    ) -> None:
        server.cut = 1
        server.answers = [(503, {"Retry-After": "1"}, problem(503, "not now")), (202, {}, {"request_id": ID})]
        ran = person.run("ask", "--no-wait", "hi")
        assert (ran.code, ran.out.strip()) == (0, ID)
        assert len(server.requests) == 3
        assert len({headers["idempotency-key"] for _, _, headers, _ in server.requests}) == 1

    def test_two_questions_have_two_keys(self, person: Person, server: Server) -> None:
        for _ in range(2):
            person.run("ask", "--no-wait", "hi")
        assert len({headers["idempotency-key"] for _, _, headers, _ in server.requests}) == 2

    def test_the_body_is_the_documents_and_tells_nothing_of_the_machine(self, person: Person, server: Server) -> None:
        person.run("ask", "--no-wait", "help me")
        [(method, path, _, body)] = server.requests
        assert (method, path) == ("POST", "/api/v1/requests/cli")
        assert body == {
            "user_id": "ann",
            "content": "help me",
            "cli_session_id": "default",
            "command_context": {"command": "agent", "args": ["ask"]},
        }

    @pytest.mark.parametrize(("status", "code"), [(400, 2), (413, 2), (422, 2), (401, 3), (403, 3), (500, 4), (302, 2)])
    def test_what_a_refusal_means(self, person: Person, server: Server, status: int, code: int) -> None:
        server.answers = [(status, {"Location": "http://127.0.0.1:1/"}, problem(status, "A sentence."))]
        ran = person.run("ask", "hi")
        assert (ran.code, ran.out) == (code, "")
        assert ran.err.startswith("agent: A sentence.")
        assert len(server.requests) == 1

    def test_an_answer_of_something_else_is_said_so(self, person: Person, server: Server) -> None:
        server.answers = [(200, {}, ["not", "ours"])]
        ran = person.run("status", ID)
        assert (ran.code, "self-service agent" in ran.err) == (4, True)


class TestWhoAsks:
    def test_without_a_token_the_users_name_is_sent(self, person: Person, server: Server) -> None:
        person.run("ask", "--no-wait", "hi", AGENT_USER="Jürgen")
        _, _, headers, body = server.requests[0]
        assert headers["x-user-id"].encode("latin-1").decode() == body["user_id"] == "Jürgen"
        assert "authorization" not in headers

    def test_a_token_is_sent_as_bearer_and_its_subject_is_the_user(self, person: Person, server: Server) -> None:
        # its payload says that the subject is ann@example.com; it is not signed
        token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm5AZXhhbXBsZS5jb20ifQ."  # pragma: allowlist secret
        del person.environment["AGENT_USER"]
        person.run("ask", "--no-wait", "hi", AGENT_TOKEN=token)
        _, _, headers, body = server.requests[0]
        assert headers["authorization"] == f"Bearer {token}"
        assert body["user_id"] == "ann@example.com"
        assert "x-user-id" not in headers

    def test_a_token_without_encryption_is_warned_of(self, person: Person) -> None:
        ran = person.run("--server", "http://agent.invalid", "status", AGENT_TOKEN="t")  # of nothing: nobody is called
        assert "agent: the token goes to http://agent.invalid without encryption" in ran.err


class TestConfigFile:
    def write(self, person: Person, text: str, mode: int = 0o600) -> None:
        path = person.home / ".config/agent/config.toml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(mode)

    def test_a_flag_comes_before_the_environment_and_that_before_the_file(self, person: Person, server: Server) -> None:
        self.write(person, f'server = "{server.url}"\nuser = "of-the-file"\ntoken = "t1"\n')
        for name in ("AGENT_URL", "AGENT_USER"):
            del person.environment[name]
        person.run("ask", "--no-wait", "hi")
        person.run("ask", "--no-wait", "hi", AGENT_USER="of-the-environment", AGENT_TOKEN="t2")
        person.run("--user", "of-the-group", "ask", "--no-wait", "hi", AGENT_USER="of-the-environment")
        person.run("--user", "of-the-group", "ask", "--user", "of-the-flag", "--no-wait", "hi")
        assert [body["user_id"] for _, _, _, body in server.requests] == [
            "of-the-file", "of-the-environment", "of-the-group", "of-the-flag",
        ]  # fmt: skip
        assert [headers["authorization"] for _, _, headers, _ in server.requests[:2]] == ["Bearer t1", "Bearer t2"]

    def test_xdg_config_home_and_the_flag_name_other_places(self, person: Person, server: Server, tmp_path: Path) -> None:
        del person.environment["AGENT_USER"]
        other = tmp_path / "xdg/agent/config.toml"
        other.parent.mkdir(parents=True)
        other.write_text('user = "xdg"')
        person.run("ask", "--no-wait", "hi", XDG_CONFIG_HOME=str(tmp_path / "xdg"))
        person.run("--config", str(other), "ask", "--no-wait", "hi")
        assert [body["user_id"] for _, _, _, body in server.requests] == ["xdg", "xdg"]
        assert person.run("--config", str(tmp_path / "nope"), "status", "x").code == 2

    @pytest.mark.parametrize("text", ['usr = "ann"', "user = 5", "token = unquoted-secret", "\x00"])
    def test_a_wrong_file_is_one_line_without_what_is_in_it(self, person: Person, text: str) -> None:
        self.write(person, text)
        ran = person.run("status", "x")
        assert (ran.code, len(ran.err.splitlines())) == (2, 1)
        assert "config.toml" in ran.err
        assert "secret" not in ran.err

    def test_a_token_that_others_can_read_is_warned_of(self, person: Person, server: Server) -> None:
        self.write(person, 'token = "t"', 0o644)
        server.answers = [(404, {}, problem(404, "nothing"))]
        assert "chmod 600" in person.run("status", "x").err

    def test_a_home_that_cannot_be_written_to_is_no_obstacle(self, person: Person, tmp_path: Path) -> None:
        (tmp_path / "home").write_text("a file")
        assert person.run("ask", "--no-wait", "hi").code == 0


def test_the_help_imports_nothing_that_talks_or_draws() -> None:
    """Its time is that of click: agent --help and completion stay quick (measured in docs/cli.md)."""
    import subprocess
    import sys

    code = "import sys, infra.cli.main; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"rich", "urllib3", "pydantic", "flask", "http.client", "tomllib"} & set(ran.stdout.split())


def test_events_cut_anywhere_are_read_whole() -> None:
    told = 'id: 1\nevent: status\ndata: {"a": "ü"}\n\n: comment\n\n'
    told += 'id: 1.1\nevent: chunk\r\ndata: {"content": "x"}\r\n\r\nid: 2\nda'
    raw = told.encode()
    expected = [Event("1", "status", {"a": "ü"}), Event("1.1", "chunk", {"content": "x"})]
    for size in (1, 2, 7, len(raw)):
        assert list(parse(raw[at : at + size] for at in range(0, len(raw), size))) == expected


def test_the_installed_command_is_this_one() -> None:
    text = (ROOT / "infra/cli/entry_points.txt").read_text()
    assert re.search(r"^agent = infra\.cli\.main:main$", text, re.MULTILINE)
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert 'entry-points = { file = ["infra/cli/entry_points.txt"] }' in pyproject
