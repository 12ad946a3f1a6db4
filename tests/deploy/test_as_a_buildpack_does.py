"""Each function's directory alone, with the wheel in it, is all that an image needs: installed, started, called."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.answers import wrong_answer
from tests.deploy.image import Container, Image, python
from tests.parts.events import PREFIX, event, request_created
from tests.parts.functions import ROOT, Event
from tests.parts.net import Answer, free_port, problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, credentials, settings_of_ingest

FUNCTIONS = sorted(path.parent.name for path in ROOT.glob("functions/*/func.py"))
POSTGRES = ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD")


@pytest.fixture(scope="module")
def interpreter() -> str:
    return python()


@pytest.fixture
def settings(postgres: Postgres, recorder: Recorder) -> dict[str, str]:
    recorder.clear()
    database = {name: value for name, value in postgres.environment().items() if name in POSTGRES}
    stack = f"http://127.0.0.1:{free_port()}"
    return {**database, **settings_of_ingest(recorder.url), "LLAMA_STACK_URL": stack, "SLACK_BOT_TOKEN": "xoxb-test"}


def deliver(container: Container, given: Event) -> Answer:
    answer = container.call("POST", "/", given.body, given.headers)
    assert wrong_answer(container.name, answer) is None
    return answer


def ask(container: Container, integration: str) -> None:
    body = json.dumps(BODIES[integration]).encode()
    proof = credentials(integration, body, BODIES[integration]["user_id"])
    answer = container.call("POST", "/", body, {"content-type": "application/json", **proof})
    assert (answer.status, answer.json()["status"]) == (202, "accepted")


def record(container: Container) -> None:
    created = Event.of(deliver(container, request_created()))
    assert created.attribute("type") == PREFIX + "session.created"


def no_model_yet(container: Container) -> None:
    ready = event(PREFIX + "session.created", "r1.session", {"session": {"session_id": "s1", "opened": True}})
    problem(deliver(container, ready), 400)  # its request is missing: refused for good


def dispatch(container: Container) -> None:
    data = {"request_id": "r1", "session_id": "s1", "integration_type": "web", "user_id": "ann", "status": "completed"}
    data |= {"agent_id": "a", "content": "Hello.", "error": None, "completed_at": "2026-01-02T03:04:05Z"}  # type: ignore[dict-item]
    assert deliver(container, event(PREFIX + "agent.response-ready", "r1.response", data)).status == 204


def bury(container: Container) -> None:
    assert deliver(container, request_created().but(knativeerrorcode="503")).status == 204


def sweep(container: Container) -> None:
    assert deliver(container, event("dev.knative.sources.ping", "tick-1", {})).status == 204


def read(container: Container) -> None:
    headers = {"x-gateway-secret": "test-gateway-secret", "x-user-id": "ann"}  # pragma: allowlist secret
    problem(container.call("GET", "/api/v1/requests/r1", headers=headers), 404)


CALLS: dict[str, Callable[[Container], None]] = {
    **{f"ingest-{name}": lambda container, name=name: ask(container, name) for name in BODIES},  # type: ignore[misc]
    "session-upsert": record,
    "agent-invoke": no_model_yet,
    "response-dispatch": dispatch,
    "dead-letter": bury,
    "session-sweep": sweep,
    "request-status": read,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_directory_alone_is_installed_started_by_its_procfile_and_answers(
    name: str, wheel: Path, tmp_path: Path, interpreter: str, settings: dict[str, str]
) -> None:
    container = Image(name, wheel, tmp_path, interpreter).start(settings)
    try:
        CALLS[name](container)
    finally:
        code = container.stop()
    assert code == 0


def test_app_sh_starts_what_the_procfile_starts(
    wheel: Path, tmp_path: Path, interpreter: str, settings: dict[str, str]
) -> None:
    image = Image("ingest-web", wheel, tmp_path, interpreter)
    container = image.start(settings, [str(image.directory / "app.sh")])
    try:
        ask(container, "web")
    finally:
        code = container.stop()
    assert code == 0


def test_func_knows_every_directory_as_a_parliament_function() -> None:
    # func's rule: a Procfile, and a top-level *.py that imports parliament.
    for name in FUNCTIONS:
        directory = ROOT / "functions" / name
        assert (directory / "Procfile").read_text() == "web: python -m common.host .\n"
        assert "from parliament import Context" in (directory / "func.py").read_text()
        listed = subprocess.run(["git", "check-ignore", "-q", f"functions/{name}/x"], cwd=ROOT, check=False)
        assert listed.returncode == 1, "func deploy --remote leaves out what .gitignore names"
