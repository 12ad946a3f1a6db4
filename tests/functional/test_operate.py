"""`python -m infra.operate` on real PostgreSQL, with the functions that a replayed event reaches."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from infra.operate.__main__ import main
from tests.functional.test_dead_letter import dead
from tests.parts.events import PREFIX, event, request_created
from tests.parts.functions import ROOT, Event, Function
from tests.parts.llama import DemoModel
from tests.parts.net import free_port
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes ok!").decode()  # pragma: allowlist secret


@pytest.fixture(scope="module")
def hook() -> Iterator[Recorder]:
    """The webhook of the tool `snow`."""
    endpoint = Recorder()
    yield endpoint
    endpoint.close()


@pytest.fixture(scope="module")
def functions(
    postgres_server: Postgres, recorder: Recorder, hook: Recorder, llama_stack: str
) -> Iterator[dict[str, Function]]:
    settings = {
        **postgres_server.environment(),
        "BROKER_URL": recorder.url,
        "LLAMA_STACK_URL": llama_stack,
        "WEBHOOK_SECRETS": json.dumps({"snow": SECRET}),
        "WEBHOOK_URLS_ALLOWED": hook.url,
    }
    names = ("dead-letter", "session-upsert", "agent-invoke", "response-dispatch")
    started = {name: Function(name, settings) for name in names}
    yield started
    for function in started.values():
        function.close()


POISON = "refused again: its data are not those of its type"
WOKEN = {
    PREFIX + "request.created": "session-upsert",
    PREFIX + "session.created": "agent-invoke",
    PREFIX + "session.updated": "agent-invoke",
    PREFIX + "agent.response-ready": "response-dispatch",
}


class Operating:
    """The command, what it publishes, and the functions behind the broker."""

    def __init__(
        self, functions: dict[str, Function], postgres: Postgres, broker: Recorder, hook: Recorder, model: DemoModel
    ) -> None:
        self.functions = functions
        self.postgres = postgres
        self.broker = broker
        self.hook = hook
        self.model = model

    def settings(self, **settings: str) -> dict[str, str]:
        """The environment of the command."""
        return {**self.postgres.environment(), "BROKER_URL": self.broker.url, **settings}

    def run(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        """The command in this process: exit code, output, errors."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in self.settings(**settings).items():
                patch.setenv(name, value)
            code = main(arguments)
        return code, out.getvalue(), err.getvalue()

    def ok(self, *arguments: str) -> str:
        """Its output, when it succeeded."""
        code, out, err = self.run(*arguments)
        assert (code, err) == (0, "")
        return out

    def json(self, *arguments: str) -> Any:
        """Its output for programs."""
        return json.loads(self.ok(*arguments, "--json"))

    def refused(self, *arguments: str, **settings: str) -> str:
        """Its one line of error."""
        code, out, err = self.run(*arguments, **settings)
        assert (code, out) == (1, "")
        [line] = err.splitlines()
        assert line.startswith("operate: ")
        return line

    def bury(self, given: Event, code: str = "422") -> int:
        """An event becomes a dead letter; its number. What dead-letter publishes about it is forgotten."""
        assert self.functions["dead-letter"].post_event(dead(given, code)).status == 204
        self.broker.clear()
        return int(self.postgres.query("SELECT max(dead_letter_id) FROM dead_letters")[0][0])

    def deliver(self, given: Event) -> list[Event]:
        """Bring an event to whom it wakes, and the replies on, as the broker does; every event in order."""
        seen = []
        queue = [given]
        while queue:
            one = queue.pop(0)
            seen.append(one)
            answer = self.functions[WOKEN[one.attribute("type")]].post_event(one)
            assert answer.status in (200, 204), answer.body
            if answer.status == 200:
                queue.append(Event.of(answer))
        return seen

    def tables(self) -> list[tuple[Any, ...]]:
        """All that a request left, but for when dead letters were replayed."""
        return [
            *self.postgres.query("SELECT to_jsonb(r) FROM request_logs r ORDER BY request_id"),
            *self.postgres.query("SELECT to_jsonb(s) FROM request_sessions s ORDER BY session_id"),
        ]


@pytest.fixture
def operating(
    functions: dict[str, Function], postgres: Postgres, recorder: Recorder, hook: Recorder, demo_model: DemoModel
) -> Operating:
    recorder.clear()
    hook.clear()
    hook.status = 204
    postgres.query(
        "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', 'snow', %s)",
        json.dumps({"webhook_url": hook.url, "secret_ref": "snow"}),
    )
    return Operating(functions, postgres, recorder, hook, demo_model)


def of_tool(request_id: str) -> Event:
    return request_created(request_id=request_id, integration_type="tool", integration_key="snow", content="A printer?")


def test_a_replay_publishes_the_same_event_and_says_when(operating: Operating) -> None:
    created = request_created(request_id="r1", content="A printer?")
    number = operating.bury(created.but(data={**created.data(), "user_id": ""}))  # poison: no user
    [row] = operating.json("dlq", "replay", str(number))
    [again] = operating.broker.events
    assert row == {"id": number, "event_id": "r1", "published": True, "replay": POISON}
    for name in ("id", "source", "type", "subject", "partitionkey", "traceparent", "requestid"):
        assert again.attribute(name) == created.attribute(name)
    assert again.headers["content-type"] == "application/json"
    assert again.data() == {**created.data(), "user_id": ""}
    assert operating.postgres.query("SELECT replayed_at IS NOT NULL FROM dead_letters") == [(True,)]


@pytest.mark.parametrize("raw", [b"\xff\x00 no JSON", b"", b'{"a": "\\u0000"}'])
def test_an_event_of_any_data_is_replayed_whole(operating: Operating, raw: bytes) -> None:
    stray = Event(event("com.example.other", "e1", {}).headers, raw)
    number = operating.bury(stray)
    operating.ok("dlq", "replay", str(number))
    [again] = operating.broker.events
    assert (again.attribute("id"), again.body) == ("e1", raw)


def test_a_replay_of_something_already_answered_changes_nothing(operating: Operating) -> None:
    created = of_tool("r1")
    seen = operating.deliver(created)
    assert len(operating.hook.events) == 1
    numbers = [operating.bury(one) for one in seen]
    before, calls = operating.tables(), len(operating.model.calls())
    rows = operating.json("dlq", "replay", *map(str, numbers))
    assert {row["replay"] for row in rows} == {"nothing: the request is answered, and that was delivered"}
    assert [one.attribute("id") for one in operating.broker.events] == ["r1", "r1.session", "r1.response"]
    for one in list(operating.broker.events):
        operating.deliver(one)
    assert operating.tables() == before
    assert len(operating.model.calls()) == calls
    assert len(operating.hook.events) == 1


def test_a_request_that_was_ended_stays_ended_and_only_its_sentence_is_sent(operating: Operating) -> None:
    created = of_tool("r1")
    number = operating.bury(created)  # never recorded: dead-letter ended it as failed
    [row] = operating.json("dlq", "replay", str(number), "--dry-run")
    assert (
        row["replay"] == "the request has failed (not_processed); the sentence that says so is sent again, with the same key"
    )
    operating.ok("dlq", "replay", str(number))
    operating.deliver(operating.broker.events[0])
    assert operating.postgres.query("SELECT status, error_code FROM request_logs") == [("failed", "not_processed")]
    assert operating.model.calls() == []
    [sent] = operating.hook.events
    assert sent.headers["webhook-id"] == "r1.failed"


def test_a_failed_deliverys_replay_sends_again_with_the_same_key(operating: Operating) -> None:
    operating.hook.status = 404
    created = of_tool("r1")
    [_, ready] = [created, Event.of(operating.functions["session-upsert"].post_event(created))]
    out = Event.of(operating.functions["agent-invoke"].post_event(ready))
    assert operating.functions["response-dispatch"].post_event(out).status == 422
    number = operating.bury(out)
    [(error,)] = operating.postgres.query("SELECT delivery_error FROM request_logs")
    assert error == "The webhook answered 404."
    assert operating.json("dlq", "show", str(number))["replay"] == (
        "the request is answered; the answer is sent again, with the same key"
    )
    operating.hook.status = 204
    operating.ok("dlq", "replay", str(number))
    operating.deliver(operating.broker.events[0])
    first, second = operating.hook.events
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == "r1.response"
    assert operating.postgres.query("SELECT delivered_at IS NOT NULL, delivery_error FROM request_logs") == [(True, None)]


def test_a_request_that_nobody_recorded_is_worked_on(operating: Operating) -> None:
    """Its dead letter is kept; its row is not (deleted by hand, or restored from an older backup)."""
    number = operating.bury(of_tool("r1"))
    operating.postgres.query("DELETE FROM request_logs")
    [row] = operating.json("dlq", "replay", str(number))
    assert row["replay"] == "the request is recorded and worked on"
    operating.deliver(operating.broker.events[0])
    assert operating.postgres.query("SELECT status FROM request_logs") == [("completed",)]
    assert [one.headers["webhook-id"] for one in operating.hook.events] == ["r1.response"]


def test_a_request_that_stands_still_goes_on(operating: Operating) -> None:
    ready = Event.of(operating.functions["session-upsert"].post_event(of_tool("r1")))
    number = operating.bury(ready.but(id="stray"))  # a stray one does not end the request
    assert operating.json("dlq", "show", str(number))["replay"] == "the request goes on where it stopped"


def test_a_dry_run_publishes_and_writes_nothing(operating: Operating) -> None:
    number = operating.bury(of_tool("r1"))
    before = operating.tables()
    said = operating.ok("dlq", "replay", str(number), "--dry-run")
    assert said.startswith(f"{number} would be published: the request has failed")
    assert operating.broker.events == []
    assert operating.postgres.query("SELECT replayed_at FROM dead_letters") == [(None,)]
    assert operating.tables() == before


def test_the_list_says_what_failed_where_and_what_a_replay_would_do(operating: Operating) -> None:
    first = operating.bury(of_tool("r1"))
    operating.bury(event("com.example.other", "e1", {}), "500")
    lines = operating.ok("dlq", "list").splitlines()
    assert lines[0].startswith("ID")
    assert len(lines) == 3
    assert "request.created" in lines[1]
    assert "r1" in lines[1]
    [row] = operating.json("dlq", "list", "--type", "request.created")
    assert (row["id"], row["code"], row["why"], row["destination"]) == (first, "422", "why", "http://agent-invoke.local/")
    assert operating.json("dlq", "list", "--request", "r1")[0]["id"] == first
    assert len(operating.json("dlq", "list", "--since", "10m")) == 2
    assert operating.json("dlq", "list", "--since", "2099-01-01") == []
    assert len(operating.json("dlq", "list", "--limit", "1")) == 1


def test_what_matches_is_replayed_once(operating: Operating) -> None:
    for number in range(3):
        operating.bury(of_tool(f"r{number}"))
    operating.bury(event("com.example.other", "e1", {}))
    assert len(operating.json("dlq", "replay", "--type", "request.created", "--since", "1h")) == 3
    assert [one.attribute("id") for one in operating.broker.events] == ["r0", "r1", "r2"]
    assert operating.json("dlq", "replay", "--type", "request.created", "--since", "1h") == []
    assert len(operating.json("dlq", "list", "--unreplayed")) == 1
    operating.bury(of_tool("r1"))  # and failed again
    assert [row["event_id"] for row in operating.json("dlq", "replay", "--request", "r1")] == ["r1"]


def test_show_shows_it_whole(operating: Operating) -> None:
    number = operating.bury(of_tool("r1"))
    said = operating.ok("dlq", "show", str(number))
    assert "http://agent-invoke.local/" in said
    assert "A printer?" in said


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["dlq", "list"], 0, "no dead letters\n", ""),
        (["dlq", "show", "4711"], 1, "", "operate: there is no dead letter 4711\n"),
    ],
)
def test_it_is_a_command(operating: Operating, arguments: list[str], code: int, out: str, err: str) -> None:
    command = [sys.executable, "-m", "infra.operate", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=operating.settings(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


def test_an_empty_list_says_so(operating: Operating) -> None:
    assert operating.ok("dlq", "list") == "no dead letters\n"
    assert operating.ok("dlq", "replay", "--since", "1h") == "no dead letters\n"


def test_what_cannot_be_done_is_one_line(operating: Operating) -> None:
    assert operating.refused("dlq", "show", "4711") == "operate: there is no dead letter 4711"
    assert operating.refused("dlq", "replay", "4711", "4712") == "operate: there is no dead letter 4711, 4712"
    assert "say which" in operating.refused("dlq", "replay")
    nowhere = str(free_port())
    assert "the database does not answer" in operating.refused("dlq", "list", POSTGRES_PORT=nowhere)
    assert "POSTGRES_PORT" in operating.refused("dlq", "list", POSTGRES_PORT="x")
    number = operating.bury(of_tool("r1"))
    assert "BROKER_URL" in operating.refused("dlq", "replay", str(number), BROKER_URL="")
    assert "the broker does not answer" in operating.refused(
        "dlq", "replay", str(number), "--json", BROKER_URL=f"http://127.0.0.1:{nowhere}/"
    )
    assert operating.postgres.query("SELECT replayed_at FROM dead_letters") == [(None,)]
    nobody = f"http://127.0.0.1:{nowhere}"
    assert operating.refused("--platform", nobody, "dlq", "list") == f"operate: no platform answers at {nobody}"
    assert "no webhook is configured for nobody" in operating.refused("webhooks", "enable", "nobody")


def test_a_webhook_that_went_is_seen_switched_on_and_sent_what_it_missed(operating: Operating) -> None:
    operating.hook.status = 410
    upsert, agent, dispatch = (operating.functions[name] for name in ("session-upsert", "agent-invoke", "response-dispatch"))
    for number in range(3):
        ready = Event.of(upsert.post_event(of_tool(f"r{number}")))
        dispatch.post_event(Event.of(agent.post_event(ready)))
    assert len(operating.hook.events) == 1
    [row] = operating.json("webhooks", "list")
    assert (row["tool"], row["reason"], row["unsent"]) == ("snow", "The webhook answered 410.", 3)
    assert "The webhook answered 410." in operating.ok("webhooks", "list")

    operating.hook.status = 204
    operating.broker.clear()
    assert operating.ok("webhooks", "enable", "snow", "--resend") == "snow is switched on; 3 answers are sent again\n"
    for one in operating.broker.events:
        operating.deliver(one)
    sent = [one.headers["webhook-id"] for one in operating.hook.events[1:]]
    assert sent == ["r0.response", "r1.response", "r2.response"]
    assert operating.json("webhooks", "list")[0]["unsent"] == 0
    assert operating.ok("webhooks", "enable", "snow") == "snow was not switched off\n"


def test_a_webhook_is_switched_off_by_hand(operating: Operating) -> None:
    assert operating.ok("webhooks", "disable", "snow") == "snow is switched off\n"
    assert operating.json("webhooks", "list")[0]["reason"] == "Switched off by an operator."
    operating.deliver(of_tool("r1"))
    assert operating.hook.events == []
    assert operating.ok("webhooks", "enable", "snow") == "snow is switched on; 1 answers were not sent meanwhile\n"
