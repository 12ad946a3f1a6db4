"""Every generated file of the deployment, and the check that each is what its sources make: `make generate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from common import events
from infra.deploy import chart_values, directories, wheel
from infra.deploy.table import NAME, PING, PREFIX, PUBLISHES, ROOT, Function, TableError, load
from infra.observability.dashboard import dashboard

_HEADER = "# Made from infra/topology.yaml: make generate\n"


def generated(root: Path = ROOT) -> dict[str, str]:
    """Every generated file: its path in the tree, and its text.

    Raises TableError when the table cannot be deployed.
    """
    functions = load(root / "infra/topology.yaml")
    made = {
        f"functions/{function.name}/{name}": text
        for function in functions
        for name, text in directories.files(root, function).items()
    }
    made["infra/chart/files/functions.yaml"] = chart_table(functions)
    made["infra/chart/Chart.yaml"] = chart_yaml(directories.version(root))
    made["docs/chart.md"] = chart_values.page(root)
    for path in sorted((root / "functions/agent-invoke/agents").glob("*.yaml")):
        made[f"infra/chart/files/agents/{path.name}"] = path.read_text(encoding="utf-8")
    for event_type, model in events.MODELS.items():
        name = event_type.removeprefix(PREFIX)
        schema = {"$id": f"urn:{NAME}:schema:{name}:1", **model.model_json_schema(mode="serialization")}
        made[f"infra/chart/files/schemas/{name}.json"] = json.dumps(schema, indent=1) + "\n"
    alerts = root / "infra/observability/alerts.yaml"
    made["infra/chart/files/observability/alerts.yaml"] = alerts.read_text(encoding="utf-8")
    made["infra/chart/files/observability/dashboard.json"] = dashboard()
    return made


def chart_table(functions: tuple[Function, ...]) -> str:
    """The chart's table of functions, in the order of infra/topology.yaml; values.functions.<name> is merged over it."""
    return _HEADER + yaml.safe_dump({one.name: _row(one) for one in functions}, sort_keys=False, width=120)


def chart_yaml(version: str) -> str:
    """Chart.yaml, with the version of common as the app's: both are released together."""
    return (
        "# Made from pyproject.toml: make generate\n"
        f"apiVersion: v2\nname: {NAME}\ntype: application\nversion: {version}\nappVersion: {version}\n"
        "description: The request layer between people and AI agents, as Knative Functions\n"
        'kubeVersion: ">=1.28.0-0"\n'
    )


def problems(root: Path = ROOT) -> list[str]:
    """A line for each generated file that is not what its sources make, and for a changed common of an old version."""
    try:
        made = generated(root)
    except TableError as error:
        return [str(error)]
    found = [
        f"{name} is not what its sources make: make generate" for name, text in made.items() if not _same(root, name, text)
    ]
    found += [f"{name} is made from nothing: delete it" for name in _extra(root, made)]
    return [*found, *wheel.problems(root)]


def write(root: Path = ROOT) -> list[str]:
    """Write what differs; the paths that were written or deleted."""
    made = generated(root)
    changed = [name for name, text in made.items() if not _same(root, name, text)]
    for name in changed:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made[name], encoding="utf-8")
        path.chmod(0o755 if path.name in directories.EXECUTABLE else 0o644)
    extra = _extra(root, made)
    for name in extra:
        (root / name).unlink()
    return changed + extra


def _row(function: Function) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": function.kind,
        "paths": list(function.paths),
        **({"pages": list(function.pages)} if function.pages else {}),
        "threads": function.threads,
        "scale": function.scale,
        "resources": function.resources,
        "requestSeconds": function.request_seconds,
        "drainSeconds": function.drain_seconds,
        "needs": list(function.needs),
        "secrets": _by_holder(function.secrets),
        "triggers": [{"name": one.name, "attributes": one.attributes} for one in function.triggers],
        "labels": {PUBLISHES: "true"} if function.publishes else {},
    }
    if function.delivery:
        row["delivery"] = function.delivery
    if function.schedule:
        row |= {"schedule": function.schedule, "scheduledType": PING}
    if function.dead_letter:
        row["deadLetter"] = True
    return row


def _by_holder(secrets: dict[str, str]) -> dict[str, list[str]]:
    return {holder: [one for one in secrets if secrets[one] == holder] for holder in dict.fromkeys(secrets.values())}


def _same(root: Path, name: str, text: str) -> bool:
    path = root / name
    executable = bool(path.is_file() and path.stat().st_mode & 0o100)
    return (
        path.is_file() and path.read_text(encoding="utf-8") == text and executable == (path.name in directories.EXECUTABLE)
    )


def _extra(root: Path, made: dict[str, str]) -> list[str]:
    there = [*root.glob("infra/chart/files/agents/*"), *root.glob("infra/chart/files/schemas/*")]
    return sorted(name for name in (path.relative_to(root).as_posix() for path in there) if name not in made)
