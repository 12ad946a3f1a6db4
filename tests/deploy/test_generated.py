"""What is generated is what its sources make; each mistake is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from infra.deploy import generate, steps, wheel
from infra.deploy.table import TableError, load
from tests.deploy.answers import wrong_answer
from tests.deploy.image import Image, python
from tests.parts.events import request_created
from tests.parts.functions import ROOT
from tests.parts.postgres import Postgres


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the generators read and write."""
    for name in ("common", "functions", "func.yaml-templates", "infra", "requirements"):
        ignored = shutil.ignore_patterns("__pycache__", "wheels", "*.go", "go.sum", "local")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / wheel.LOCK).write_text(f"{wheel.version(tmp_path)} {wheel.content_hash(tmp_path)}\n")
    generate.write(tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_was_just_written_is_right(tree: Path) -> None:
    assert generate.problems(tree) == []


def test_a_changed_table_is_drift_of_each_file_made_from_it(tree: Path) -> None:
    edit(tree / "infra/topology.yaml", "max: 40", "max: 41")
    found = generate.problems(tree)
    assert [line.split(" is ")[0] for line in found] == [
        "functions/agent-invoke/func.yaml",
        "functions/agent-invoke/README.md",
        "infra/chart/files/functions.yaml",
    ]


def test_a_file_edited_by_hand_is_drift(tree: Path) -> None:
    edit(tree / "functions/ingest-web/Procfile", "common.host", "parliament")
    (tree / "functions/ingest-web/app.sh").chmod(0o644)
    assert {line.split(" is ")[0] for line in generate.problems(tree)} == {
        "functions/ingest-web/Procfile",
        "functions/ingest-web/app.sh",
    }


def test_a_changed_common_without_a_new_version_is_named_and_not_vendored(tree: Path) -> None:
    edit(tree / "common/errors.py", '"""', '"""Changed. ')
    said = f"common changed, its version is still {wheel.version(tree)}: make bump"
    assert generate.problems(tree) == [said]
    with pytest.raises(wheel.WheelError, match="make bump"):
        wheel.vendor(tree)


def test_a_vendored_directory_has_the_wheel_and_the_bytecode_of_each_module(tree: Path) -> None:
    stale = tree / "functions/agent-invoke/__pycache__/gone.cpython-30.pyc"
    stale.parent.mkdir()
    stale.touch()
    places = wheel.vendor(tree, python=sys.executable)
    assert len(places) == len(load())
    for place in places:
        directory = place.parents[1]
        compiled = {path.name.split(".")[0] for path in directory.glob("__pycache__/*.pyc")}
        assert compiled == {path.stem for path in directory.glob("*.py")}, directory.name


def test_a_bump_makes_everything_name_the_new_version(tree: Path) -> None:
    edit(tree / "common/errors.py", '"""', '"""Changed. ')
    new = wheel.bump(tree)
    wheel.record(tree)
    generate.write(tree)
    assert generate.problems(tree) == []
    assert f"common-{new}-py3" in (tree / "functions/ingest-web/requirements.txt").read_text()
    assert yaml.safe_load((tree / "infra/chart/Chart.yaml").read_text())["appVersion"] == new


def test_the_wheel_holds_the_statements_and_the_type_marker(wheel: Path) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", wheel], check=True, capture_output=True, text=True
    ).stdout
    assert "common/sql/queries.sql" in listed
    assert "common/py.typed" in listed
    assert "common/host.py" in listed


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (", SLACK_BOT_TOKEN]\n", "]\n", "response-dispatch: add SLACK_BOT_TOKEN to `secrets`"),
        ("timeout: PT290S", "timeout: PT295S", "agent-invoke: delivery.timeout must be at most 290 s"),
    ],
)
def test_a_table_that_cannot_be_deployed_is_refused(tree: Path, old: str, new: str, said: str) -> None:
    edit(tree / "infra/topology.yaml", old, new)
    with pytest.raises(TableError) as refused:
        load(tree / "infra/topology.yaml")
    assert said in str(refused.value)
    assert said in generate.problems(tree)[0]


def test_a_function_that_answers_json_on_200_is_named(wheel: Path, tmp_path: Path, postgres: Postgres) -> None:
    image = Image("session-upsert", wheel, tmp_path, python())
    edit(image.directory / "func.py", "    return events.session_ready(recorded)", '    return {"status": "ok"}')
    database = {name: value for name, value in postgres.environment().items() if name.startswith("POSTGRES_")}
    container = image.start(database)
    try:
        given = request_created()
        answer = container.call("POST", "/", given.body, given.headers)
    finally:
        container.stop()
    said = wrong_answer("session-upsert", answer)
    assert said is not None
    assert said.startswith("session-upsert answers 200 with application/json, which is no CloudEvent")


class TestDryRun:
    SETTINGS = {"REGISTRY": "registry.example.com/agents", "NAMESPACE": "agents"}  # noqa: RUF012 - read only

    def test_the_chart_comes_before_the_functions_that_read_its_configmaps(self) -> None:
        commands = steps.deploy(self.SETTINGS)
        tools = [command[0] for command in commands[1:]]
        assert tools == ["helm", *["func"] * len(load())]
        assert "deployFunctions=false" in commands[1]

    def test_the_two_images_of_the_replaced_system_are_all_functions(self) -> None:
        def built(part: str | None) -> set[str]:
            made = steps.build_images(self.SETTINGS, part)
            return {command[command.index("--path") + 1] for command in made if command[0] == "func"}

        assert built(steps.AGENT_SERVICE) == {"functions/agent-invoke"}
        assert built(steps.AGENT_SERVICE) | built(steps.REQUEST_MANAGER) == built(None)

    @pytest.mark.parametrize("what", ["deploy", "helm-install", "build-images", "undeploy"])
    def test_a_dry_run_prints_and_runs_nothing(
        self, what: str, run_steps: Callable[..., subprocess.CompletedProcess[str]]
    ) -> None:
        done = run_steps(what, DRY_RUN="1", PATH="", **self.SETTINGS)
        assert done.returncode == 0, done.stderr
        assert all(line.startswith("+ ") for line in done.stdout.splitlines())

    def test_a_missing_registry_is_one_line(self, run_steps: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        done = run_steps("deploy", DRY_RUN="1")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


@pytest.fixture
def run_steps() -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(what: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if name not in ("REGISTRY", "NAMESPACE", "TAG", "VALUES")}
        return subprocess.run(
            [sys.executable, "-m", "infra.deploy.steps", what],
            cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run
