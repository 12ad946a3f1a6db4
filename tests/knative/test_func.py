"""The real func CLI reads every function's directory and gets each function's proper answer."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra.deploy.tools import func_schema
from tests.knative.conftest import run
from tests.parts.events import PREFIX
from tests.parts.functions import ROOT, Function
from tests.parts.net import free_port
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, request_data, settings_of_ingest

FUNCTIONS = sorted(path.parent.name for path in ROOT.glob("functions/*/func.py"))


@dataclass(frozen=True)
class Call:
    """What func is told to send, and what it should hear: text in the answer, or a status that it says it got."""

    data: dict[str, Any]
    type: str = "boson.fn"  # func's own, unless told otherwise
    answer: str = ""
    refused: int | None = None
    settings: dict[str, str] = field(default_factory=dict)


READY = {"request_id": "r1", "session_id": "s1", "integration_type": "web", "user_id": "ann", "status": "completed"}
READY |= {"agent_id": "a", "content": "Hello.", "error": None, "completed_at": "2026-01-02T03:04:05Z"}  # type: ignore[dict-item]
NO_AUTH = {"AUTH_MODE": "none"}

CALLS = {
    "ingest-web": Call(BODIES["web"], answer='"accepted"', settings=NO_AUTH),
    "ingest-cli": Call(BODIES["cli"], answer='"accepted"', settings=NO_AUTH),
    "ingest-slack": Call(BODIES["slack"], refused=401),  # func cannot sign
    "ingest-tool": Call(BODIES["tool"], refused=401),
    "session-upsert": Call(request_data(), PREFIX + "request.created", answer=PREFIX + "session.created"),
    "agent-invoke": Call({"session": {"session_id": "s1", "opened": True}}, PREFIX + "session.created", refused=400),
    "response-dispatch": Call(READY, PREFIX + "agent.response-ready"),
    "dead-letter": Call(request_data(), PREFIX + "request.created"),
    "session-sweep": Call({}, "dev.knative.sources.ping"),
    "request-status": Call({}, refused=401),  # func cannot say who asks
}


def test_func_yaml_is_valid_by_funcs_own_schema() -> None:
    files = [str(ROOT / f"functions/{name}/func.yaml") for name in FUNCTIONS]
    done = run("knative", "funcyaml", "-schema", str(func_schema()), *files)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(FUNCTIONS)


def test_a_key_that_func_does_not_know_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "func.yaml"
    wrong.write_text((ROOT / "functions/ingest-web/func.yaml").read_text() + "buildd: {}\n")
    done = run("knative", "funcyaml", "-schema", str(func_schema()), str(wrong))
    assert done.returncode == 1
    assert "buildd" in done.stderr


@pytest.mark.parametrize("name", FUNCTIONS)
def test_func_invoke_gets_the_proper_answer(
    name: str, serve: Callable[..., Function], postgres: Postgres, recorder: Recorder, tmp_path: Path
) -> None:
    one = CALLS[name]
    recorder.clear()
    settings = {**postgres.environment(), **settings_of_ingest(recorder.url), "SLACK_BOT_TOKEN": "xoxb-test"}
    settings |= {"LLAMA_STACK_URL": f"http://127.0.0.1:{free_port()}", **one.settings}
    function = serve(name, settings)
    directory = shutil.copytree(
        ROOT / "functions" / name, tmp_path / name, ignore=shutil.ignore_patterns("wheels", "__pycache__")
    )
    # This func makes a JSON string of a CloudEvent's JSON data (later ones do not); as text it goes as it is.
    event = name in ("session-upsert", "agent-invoke", "response-dispatch", "dead-letter", "session-sweep")
    told = ["--format", "cloudevent", "--content-type", "text/plain"] if event else ["--format", "http"]
    told += ["--type", one.type, "--id", uuid.uuid4().hex, "--data", json.dumps(one.data)]
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "KUBECONFIG": str(tmp_path / "none")}
    done = run("func", "invoke", "--path", str(directory), "--target", function.url, *told, **home)
    handled = [line["status"] for line in function.log() if line["message"] == "handled"]
    if one.refused is not None:
        assert str(one.refused) in done.stdout + done.stderr or handled == [one.refused], done.stdout + done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert one.answer in done.stdout
        assert len(handled) == 1
        assert handled[0] in (200, 202, 204)
