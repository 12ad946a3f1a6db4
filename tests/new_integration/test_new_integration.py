"""`make new-integration`: in a copy of the repository, its generated tests, its drift, and a question that is answered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import yaml

from infra.keys.content import new_secret
from infra.new_integration.plan import Names, NewIntegrationError, plan, with_row
from tests.parts.net import call
from tests.parts.samples import GATEWAY_SECRET
from tests.platform.support import Platform, until

ROOT = Path(__file__).parents[2]
NAME = "my-teams"


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=root, env=kept, capture_output=True, text=True, check=False)


def drift(root: Path) -> set[str]:
    """The disagreements between directories, table and generated files."""
    code = "from infra.checks import tree; from infra.contracts import documents; from infra.deploy import generate;"
    code += " print(*tree.problems(), *documents.problems(), *generate.problems(), sep='\\n')"
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines()) - {""}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as it is, committed or not, with a git of its own."""
    root = tmp_path_factory.mktemp("repository")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    for arguments in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    return root


@pytest.fixture(scope="module")
def integrated(copy: Path) -> Path:
    """The copy with the new integration, which the drift check has nothing against."""
    before = drift(copy)
    ran = run(copy, "infra.new_integration", NAME)
    assert ran.returncode == 0, ran.stderr
    assert f"written functions/ingest-{NAME}/func.py" in ran.stdout
    assert f"written functions/ingest-{NAME}/func.yaml" in ran.stdout
    assert drift(copy) <= before
    return copy


def test_the_topology_is_changed_by_its_row_alone(integrated: Path) -> None:
    before, after = ((root / "infra/topology.yaml").read_text() for root in (ROOT, integrated))
    row = [line for line in after.splitlines() if line not in before.splitlines()]
    assert row == [f"  ingest-{NAME}:", f"    paths: [/api/v1/requests/{NAME}]"]
    assert len(after.splitlines()) - len(before.splitlines()) == 8
    names = list(yaml.safe_load(after)["functions"])
    assert names[names.index("ingest-tool") + 1] == f"ingest-{NAME}"


def test_what_was_made_passes_the_linter_the_type_check_and_its_own_tests(integrated: Path) -> None:
    made = [f"functions/ingest-{NAME}", "functions/response-dispatch", "tests/functional/test_ingest_my_teams.py"]
    for arguments in (["check", "--quiet"], ["format", "--check", "--quiet"]):
        ran = run(integrated, "ruff", *arguments, *made)
        assert ran.returncode == 0, ran.stdout
    ran = run(integrated, "pytest", "-q", "-p", "no:cacheprovider", made[-1])
    assert ran.returncode == 0, ran.stdout


def test_a_second_time_it_is_refused_and_nothing_changes(integrated: Path) -> None:
    before = (integrated / "infra/topology.yaml").read_text()
    ran = run(integrated, "infra.new_integration", NAME)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"new-integration: functions/ingest-{NAME}/func.py is there already\n"
    assert (integrated / "infra/topology.yaml").read_text() == before


def test_it_runs_on_the_local_platform_and_is_answered(integrated: Path, llama_stack: str, tmp_path: Path) -> None:
    settings = {"LLAMA_STACK_URL": llama_stack, "AUTH_MODE": "gateway", "GATEWAY_SECRET": GATEWAY_SECRET}
    settings |= {"WEBHOOK_SECRETS": json.dumps({NAME: new_secret()[0]})}
    platform = Platform(tmp_path / "state", settings, integrated / "infra/topology.yaml", integrated)
    try:
        platform.wait_ready()
        # GIVEN where its answers go
        delivery = {"webhook_url": f"{platform.url}/_platform/webhook/{NAME}"}
        with psycopg.connect(platform.description()["database"]["url"], autocommit=True) as connection:
            insert = "INSERT INTO integration_configs (integration_type, delivery) VALUES (%s, %s)"
            connection.execute(insert, (NAME, json.dumps(delivery)))
        # WHEN somebody asks
        person = {"x-gateway-secret": GATEWAY_SECRET, "x-user-id": "ann"}
        body = {"user_id": "ann", "content": "I want to refresh my laptop", "channel_id": "room-1", "thread_id": "t-1"}
        asked = call("POST", f"{platform.url}/api/v1/requests/{NAME}", json_body=body, headers=person)
        assert asked.status == 202, asked.body
        request_id = asked.json()["request_id"]
        # THEN it is answered, to be read and in its thread
        found = call("GET", f"{platform.url}/api/v1/requests/{request_id}?wait=60", headers=person).json()
        assert (found["status"], found["integration_type"], found["agent_id"]) == ("completed", NAME, "laptop-refresh")
        path = f"/_platform/deliveries?request_id={request_id}"
        [sent] = until(lambda: platform.get(path).json(), "the answer is delivered")
        assert (sent["body"]["thread_id"], sent["body"]["text"]) == ("t-1", found["response"]["content"])
    finally:
        platform.close()


@pytest.mark.parametrize(
    "name",
    ["", "Teams", "1teams", "te_ams", "-teams", "teams-", "te--ams", "../x", "request", "x" * 33, "web", "tool", "slack"],
)
def test_a_name_that_cannot_be_used_is_one_line(name: str) -> None:
    with pytest.raises(NewIntegrationError) as refused:
        plan(ROOT, name)
    assert "\n" not in str(refused.value)


def test_names_in_their_forms() -> None:
    one = Names("my-teams")
    assert (one.module, one.title, one.type) == ("my_teams", "My Teams", "MyTeams")


def test_a_table_whose_ingest_row_is_last_takes_a_row_too() -> None:
    table = "functions:\n  ingest-a:\n    kind: ingest\n    paths: [/a]\n"
    changed = with_row(table, "ingest-b", "  ingest-b:\n    kind: ingest\n")
    assert yaml.safe_load(changed)["functions"]["ingest-b"] == {"kind": "ingest"}
