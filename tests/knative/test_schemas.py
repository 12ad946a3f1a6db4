"""Every rendered object against the schema of its own CRD, or of Kubernetes, by kubeconform."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.deploy.schemas import LOCATION
from tests.knative.conftest import VALUES, render, run

# No module that brings their CRDs could be had; they are in the snapshots.
WITHOUT_SCHEMA = ("configuration.konghq.com/v1/KongPlugin", "route.openshift.io/v1/Route")


def conform(path: Path) -> subprocess.CompletedProcess[str]:
    place = Path(os.environ["KNATIVE_TOOLS"]) / "schemas"
    return run(
        "kubeconform", "-strict", "-summary", "-skip", ",".join(WITHOUT_SCHEMA), "-schema-location", f"{place}/{LOCATION}",
        str(path),
    )  # fmt: skip


@pytest.mark.parametrize("values", VALUES)
def test_every_object_is_what_its_schema_says(values: str, rendered: Callable[[str], Path]) -> None:
    done = conform(rendered(values))
    assert done.returncode == 0, done.stdout
    [summary] = done.stdout.splitlines()
    text = rendered(values).read_text()
    skipped = text.count("\nkind: KongPlugin\n") + text.count("\nkind: Route\n")
    assert f"Valid: {text.count(chr(10) + 'apiVersion: ') - skipped}," in summary, summary
    assert f"Skipped: {skipped}" in summary


# Each is what a Go type takes and the API server does not, or a field that an object does not have.
PLANTED = {
    "HTTPRoute": ("type: PathPrefix", "type: Prefix", "/spec/rules/0/matches/0/path/type"),
    "ServiceMonitor": ("interval: 30s", "interval: 30 seconds", "/spec/endpoints/0/interval"),
    "ExternalSecret": ("secretKey: SLACK_BOT_TOKEN", "secretKey: SLACK BOT", "/spec/data/0/secretKey"),
    "PeerAuthentication": ("mtls: {mode: STRICT}", "mtls: {mode: ALWAYS}", "/spec/mtls/mode"),
    "EnvoyFilter": ("operation: INSERT_BEFORE", "operation: INSERT", "/spec/configPatches/0/patch/operation"),
    "Trigger": ("backoffPolicy: linear", "backoffPolicy: [linear]", "/spec/delivery/backoffPolicy"),
    "Service": (r"containerConcurrency: \d+", "containerConcurrency: many", "/spec/template/spec/containerConcurrency"),
    "PodDisruptionBudget": ("maxUnavailable: 1", "maxUnavailble: 1", "maxUnavailble"),
    "NetworkPolicy": (r"policyTypes: \[Ingress, Egress\]", "policyType: [Ingress, Egress]", "policyType"),
    "Job": ("backoffLimit: 6", "backoffLimit: six", "/spec/backoffLimit"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_mistake_is_found_by_name(kind: str, tmp_path: Path) -> None:
    old, new, named = PLANTED[kind]
    path = tmp_path / "out.yaml"
    text, count = re.subn(old, new, render("openshift"), count=1)
    assert count == 1
    path.write_text(text)
    done = conform(path)
    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if "is invalid" in line]
    assert f" - {kind} " in line
    assert named in line
