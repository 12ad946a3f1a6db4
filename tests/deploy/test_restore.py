"""After the database came back from a backup: what was answered stays so, what waited goes on, what came later is told.

The functions go on running; what the broker still has is delivered to them as it would be (docs/backup.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.backup import Backups
from tests.parts.events import event, request_created
from tests.parts.functions import Event, Function, running
from tests.parts.llama import DemoModel
from tests.parts.net import Answer, problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder

NAMES = ("session-upsert", "agent-invoke", "response-dispatch", "dead-letter", "session-sweep")
WEBHOOK_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"  # pragma: allowlist secret


@pytest.fixture(scope="module")
def functions(postgres_server: Postgres, llama_stack: str, recorder: Recorder) -> Iterator[dict[str, Function]]:
    settings = {
        **postgres_server.environment(),
        "BROKER_URL": recorder.url + "broker",
        "LLAMA_STACK_URL": llama_stack,
        "WEBHOOK_SECRETS": json.dumps({"snow": WEBHOOK_SECRET}),
        "WEBHOOK_URLS_ALLOWED": recorder.url,
    }
    with running(NAMES, settings) as started:
        yield started


class System:
    """The functions, what they send, and the backups of their database."""

    def __init__(self, functions: dict[str, Function], postgres: Postgres, outside: Recorder, model: DemoModel) -> None:
        self._functions = functions
        self.postgres = postgres
        self.model = model
        self.backups = Backups(postgres)
        self._outside = outside

    def deliver(self, name: str, given: Event) -> Answer:
        return self._functions[name].post_event(given)

    def record(self, request_id: str = "r1") -> Event:
        """A tool's request is recorded; its session event."""
        who = {"integration_type": "tool", "integration_key": "snow", "user_id": "ann"}
        created = request_created(request_id=request_id, content="Which printers are there?", **who)
        return Event.of(self.deliver("session-upsert", created))

    def answer(self, ready: Event) -> Event:
        """The turn is run, or was; the answer's event."""
        return Event.of(self.deliver("agent-invoke", ready))

    def send(self, answered: Event) -> None:
        """The answer goes out, unless it has been sent."""
        assert self.deliver("response-dispatch", answered).status == 204

    def published(self) -> list[Event]:
        """What was published beside replies."""
        return [given for given, path in zip(self._outside.events, self._outside.paths, strict=True) if path == "/broker"]

    def webhooks(self) -> list[Event]:
        """What the tool was sent."""
        return [given for given, path in zip(self._outside.events, self._outside.paths, strict=True) if path == "/hook"]

    def status(self) -> list[tuple[Any, ...]]:
        return self.postgres.query("SELECT request_id, status FROM request_logs ORDER BY request_id")


@pytest.fixture
def system(functions: dict[str, Function], postgres: Postgres, recorder: Recorder, demo_model: DemoModel) -> System:
    recorder.clear()
    postgres.query(
        "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', 'snow', %s)",
        json.dumps({"webhook_url": recorder.url + "hook", "secret_ref": "snow"}),  # pragma: allowlist secret
    )
    return System(functions, postgres, recorder, demo_model)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    return tmp_path / "llama_agents.dump"


def test_what_was_answered_before_the_backup_stays_answered_and_is_not_sent_again(system: System, backup: Path) -> None:
    ready = system.record()
    answered = system.answer(ready)
    system.send(answered)
    system.backups.dump(backup)
    system.backups.restore(backup)

    assert system.answer(ready) == answered  # both events are still in the broker
    system.send(answered)
    assert len(system.model.calls()) == 1
    assert len(system.webhooks()) == 1


def test_what_waited_at_the_backup_goes_on_when_its_event_comes(system: System, backup: Path) -> None:
    ready = system.record()
    system.backups.dump(backup)
    system.backups.restore(backup)

    system.send(system.answer(ready))
    assert system.status() == [("r1", "completed")]
    assert (len(system.model.calls()), len(system.webhooks())) == (1, 1)


def test_what_waited_at_the_backup_goes_on_without_its_event(system: System, backup: Path) -> None:
    ready = system.record()
    system.backups.dump(backup)
    system.backups.restore(backup)

    system.postgres.query("UPDATE request_logs SET recorded_at = recorded_at - interval '11 minutes'")  # STALLED_SECONDS
    assert system.deliver("session-sweep", event("dev.knative.sources.ping", "tick", {})).status == 204
    [again] = system.published()
    assert (again.attribute("type"), again.attribute("id")) == (ready.attribute("type"), ready.attribute("id"))
    system.send(system.answer(again))
    assert system.status() == [("r1", "completed")]


def test_what_was_answered_after_the_backup_is_answered_anew_under_the_same_ids(system: System, backup: Path) -> None:
    ready = system.record()
    system.backups.dump(backup)
    lost = system.answer(ready)
    system.send(lost)
    system.backups.restore(backup)

    # The answer's event may come first: of an answer that is not in the database nothing is sent.
    problem(system.deliver("response-dispatch", lost), 400)
    assert system.deliver("dead-letter", lost.but(knativeerrorcode="400")).status == 204
    anew = system.answer(ready)
    system.send(anew)
    assert system.status() == [("r1", "completed")]
    assert anew.attribute("id") == lost.attribute("id")
    # The tool is told twice, and can know by the id that it is one answer (Standard Webhooks).
    first, second = system.webhooks()
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


def test_what_was_recorded_after_the_backup_ends_as_failed_and_its_caller_is_told(system: System, backup: Path) -> None:
    system.backups.dump(backup)
    ready = system.record("r2")
    system.backups.restore(backup)

    problem(system.deliver("agent-invoke", ready), 400)  # so the broker gives it to dead-letter at once
    assert system.deliver("dead-letter", ready.but(knativeerrorcode="400")).status == 204
    assert system.status() == [("r2", "failed")]
    [told] = system.published()
    assert (told.data()["status"], told.data()["error"]["code"]) == ("failed", "not_processed")


def test_what_was_only_accepted_at_the_backup_is_recorded_anew_when_its_event_is_read_again(
    system: System, backup: Path
) -> None:
    system.backups.dump(backup)
    system.send(system.answer(system.record("r3")))
    system.backups.restore(backup)

    system.send(system.answer(system.record("r3")))  # the broker's topic was set back to before the backup
    assert system.status() == [("r3", "completed")]
