"""The real tools, and the chart as they render it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.deploy.tools import KUBERNETES
from tests.parts.functions import ROOT

CHART = ROOT / "infra/chart"
VALUES = sorted(path.stem for path in CHART.glob("values/*.yaml"))

# `make test` runs without Go; `make test-knative` (and CI) sets it, and then nothing is skipped.
if "KNATIVE_TOOLS" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


def tool(name: str) -> str:
    path = Path(os.environ["KNATIVE_TOOLS"]) / "bin" / name
    assert path.exists(), f"{path}: make test-knative builds it"
    return str(path)


def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool(name), *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=60
    )


def render(values: str, chart: Path = CHART, *more: str) -> str:
    """The chart in the namespace `agents`, with one of its value sets."""
    done = run(
        "helm", "template", "trial", str(chart), "--namespace", "agents", "--kube-version", KUBERNETES,
        "--values", str(CHART / f"values/{values}.yaml"), *more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A file with the chart as it is rendered with one value set."""
    place = tmp_path_factory.mktemp("rendered")

    def get(values: str) -> Path:
        path = place / f"{values}.yaml"
        if not path.exists():
            path.write_text(render(values))
        return path

    return get
