"""The chart, by Helm's and Knative's own code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.deploy.wheel import version
from tests.knative.conftest import CHART, VALUES, render, run
from tests.parts.functions import ROOT

VERSION = version(ROOT)
SNAPSHOTS = Path(__file__).parent / "snapshots"
SETTINGS = "self-service-agent/settings"  # a hash of what a pod reads at its start


@pytest.mark.parametrize("values", VALUES)
def test_helm_finds_nothing_wrong(values: str) -> None:
    done = run("helm", "lint", str(CHART), "--strict", "--values", str(CHART / f"values/{values}.yaml"))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("values", VALUES)
def test_every_object_is_what_its_go_type_and_knative_take(values: str, rendered: Callable[[str], Path]) -> None:
    features = ["-oidc"] if values == "oidc" else []
    done = run("knative", "validate", *features, str(rendered(values)))
    assert done.returncode == 0, done.stderr
    # No Go type of these could be had: tests/knative/test_schemas.py has ExternalSecret's schema, the snapshots all.
    unknown = {line.split()[6] for line in done.stdout.splitlines() if line.startswith("no Go type at hand")}
    assert unknown <= {"KongPlugin", "ExternalSecret", "Route"}


@pytest.mark.parametrize("values", VALUES)
def test_the_chart_renders_what_the_snapshot_says(values: str) -> None:
    # UPDATE: delete the snapshot and run this once.
    path = SNAPSHOTS / f"{values}.txt"
    now = snapshot(render(values))
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(now)
        pytest.fail(f"{path.name} is written: look at it, and run this again")
    assert now.splitlines() == path.read_text().splitlines()


def snapshot(text: str) -> str:
    """One line an object, without the labels; long texts (agents, schemas) and the version are left out: they may change."""
    lines = []
    for document in filter(None, yaml.safe_load_all(text)):
        head = f"{document['kind']} {document['metadata'].get('namespace', '')}/{document['metadata']['name']}"
        rest = {key: short(value) for key, value in document.items() if key not in ("kind", "apiVersion", "metadata")}
        rest |= {"annotations": short(document["metadata"].get("annotations", {}))}
        mark = "  # pragma: allowlist secret" if "Secret" in document["kind"] else ""  # names of secrets, and change-me
        lines.append(f"{head} {document['apiVersion']} {json.dumps(rest, sort_keys=True)}{mark}")
    return "\n".join(sorted(lines)) + "\n"


def short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "…" if key == SETTINGS else short(each) for key, each in value.items()}
    if isinstance(value, list):
        return [short(each) for each in value]
    if isinstance(value, str) and len(value) > 200:
        return "…"
    return value.replace(VERSION, "VERSION") if isinstance(value, str) else value


def documents(text: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(text) if one and one["kind"] == kind]


def test_only_what_a_function_needs_may_leave_its_pods() -> None:
    ports = {
        policy["metadata"]["name"]: {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
        - {53, 5353}
        for policy in documents(render("knative"), "NetworkPolicy")
    }
    assert ports["ingest-slack"] == {8080}
    assert ports["ingest-web"] == {8080, 443}
    assert ports["session-upsert"] == {5432}
    assert ports["agent-invoke"] == {5432, 8321}
    assert ports["response-dispatch"] == {5432, 443}
    assert ports["self-service-agent-migrate"] == {5432}


def test_every_pod_is_non_root_read_only_and_without_capabilities() -> None:
    text = render("knative")
    pods = [
        one["spec"]["template"]["spec"]
        for kind in ("Service", "Job")
        for one in documents(text, kind)
        if "template" in one["spec"]
    ]
    assert len(pods) > 9
    for pod in pods:
        [container] = pod["containers"]
        security = container["securityContext"]
        assert security["runAsNonRoot"]
        assert security["readOnlyRootFilesystem"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False


class TestPlantedMistakes:
    """Each is made in a copy of the chart, and caught by name."""

    @pytest.fixture
    def chart(self, tmp_path: Path) -> Path:
        return Path(shutil.copytree(CHART, tmp_path / "chart"))

    @staticmethod
    def change(chart: Path, template: str, old: str, new: str) -> None:
        path = chart / "templates" / template
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    @staticmethod
    def validate(chart: Path, place: Path) -> str:
        place.write_text(render("knative", chart))
        done = run("knative", "validate", str(place))
        assert done.returncode == 1
        return done.stderr

    def test_a_wrong_field(self, chart: Path, tmp_path: Path) -> None:
        self.change(chart, "functions.yaml", "containerConcurrency:", "containerConcurency:")
        assert (
            'Service agent-invoke: error unmarshaling JSON: while decoding JSON: json: unknown field "containerConcurency"'
            in self.validate(chart, tmp_path / "out.yaml")
        )

    def test_a_wrong_value(self, chart: Path, tmp_path: Path) -> None:
        self.change(chart, "functions.yaml", "min-scale: {{ $row.scale.min | quote }}", 'min-scale: "-1"')
        assert "autoscaling.knative.dev/min-scale" in self.validate(chart, tmp_path / "out.yaml")

    def test_a_trigger_without_dead_letter_sink(self, chart: Path, tmp_path: Path) -> None:
        sink = '    deadLetterSink:\n      {{- include "ssa.eventFunction" (list $root $deadLetter) | nindent 6 }}\n'
        self.change(chart, "triggers.yaml", sink, "")
        assert "Trigger session-upsert-request-created has no dead-letter sink" in self.validate(
            chart, tmp_path / "out.yaml"
        )

    def test_more_requests_at_once_than_threads(self, chart: Path, tmp_path: Path) -> None:
        self.change(chart, "functions.yaml", "containerConcurrency: {{ $row.threads }}", "containerConcurrency: 200")
        assert "containerConcurrency 200 is above its THREADS" in self.validate(chart, tmp_path / "out.yaml")

    def test_a_value_that_the_chart_does_not_know(self) -> None:
        done = run("helm", "template", "x", str(CHART), "--set", "brokerr.class=Kafka", "--set", "image.registry=r")
        assert done.returncode == 1
        assert "brokerr" in done.stderr
