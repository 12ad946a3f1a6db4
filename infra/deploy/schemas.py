"""JSON Schemas for kubeconform, one for each kind, from what Go modules bring: CRDs, and Kubernetes' own OpenAPI document.

Strict: a field that a schema does not name is refused, except where the CRD itself lets everything through
(`x-kubernetes-preserve-unknown-fields`).
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from infra.deploy.table import ROOT

Schema = dict[str, Any]

# kubeconform's -schema-location, below the directory that `write` fills.
LOCATION = "{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json"

KUBERNETES = "k8s.io/kubernetes@v1.35.4"  # of the same release as client-go in infra/knative/go.mod
# Where a module keeps its CRDs. Without a version: the one in infra/knative/go.mod.
CRDS = {
    "knative.dev/serving": "config/core/300-resources/*.yaml",
    "knative.dev/eventing": "config/core/resources/*.yaml",
    "sigs.k8s.io/gateway-api": "config/crd/standard/*.yaml",
    "istio.io/api": "kubernetes/customresourcedefinitions.gen.yaml",
    "github.com/prometheus-operator/prometheus-operator@v0.88.0": "example/prometheus-operator-crd/*.yaml",
    "github.com/external-secrets/external-secrets@v1.3.2": "config/crds/bases/external-secrets.io_*.yaml",
}


class _Loader(yaml.CSafeLoader):
    """Text for a lone `=`, which YAML 1.1 has a type for."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _loader, node: str(node.value))


def modules() -> list[str]:
    """The modules that are only here for their schemas, with their versions."""
    return [KUBERNETES, *(one for one in CRDS if "@" in one)]


def write(place: Path, go: str) -> None:
    """Fill `place` with a file for each kind, anew when the modules are others than last time.

    Raises subprocess.CalledProcessError when a module cannot be had.
    """
    directories = {one: _directory(one, go) for one in (KUBERNETES, *CRDS)}
    made_from = "\n".join(str(directory) for directory in directories.values())
    stamp = place / "modules"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == made_from:
        return
    place.mkdir(parents=True, exist_ok=True)
    for name, schema in _kubernetes(directories[KUBERNETES] / "api/openapi-spec/swagger.json"):
        (place / name).write_text(json.dumps(schema), encoding="utf-8")
    for module, pattern in CRDS.items():
        for path in sorted(directories[module].glob(pattern)):
            for name, schema in _custom(path):
                (place / name).write_text(json.dumps(schema), encoding="utf-8")
    stamp.write_text(made_from, encoding="utf-8")


def _directory(module: str, go: str) -> Path:
    command = [go, "mod", "download", "-json", module] if "@" in module else [go, "list", "-m", "-json", module]
    done = subprocess.run(command, cwd=ROOT / "infra/knative", check=True, capture_output=True, text=True)
    return Path(json.loads(done.stdout)["Dir"])


def _kubernetes(path: Path) -> Iterator[tuple[str, Schema]]:
    """Every kind of Kubernetes itself; what it refers to stands beside it."""
    definitions = json.loads(path.read_text(encoding="utf-8"))["definitions"]
    strict = {name: _strict(definition) for name, definition in definitions.items()}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            named = _named(kind["group"], kind["version"], kind["kind"])
            yield named, {"$ref": f"#/definitions/{name}", "definitions": _needed(name, strict)}


def _needed(name: str, definitions: dict[str, Schema]) -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found[one] = definitions[one]
            waiting += re.findall(r'"#/definitions/([^"]+)"', json.dumps(found[one]))
    return found


def _custom(path: Path) -> Iterator[tuple[str, Schema]]:
    """Every version of every CRD in a file; metadata is of any form, as a CRD leaves it to the API server."""
    for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader=_Loader):
        if not document or document["kind"] != "CustomResourceDefinition":
            continue
        spec = document["spec"]
        for version in spec["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            head = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
            schema["properties"] = head | schema.get("properties", {}) | {"metadata": {"type": "object"}}
            yield _named(spec["group"], version["name"], spec["names"]["kind"]), schema


def _named(group: str, version: str, kind: str) -> str:
    return f"{group or version}_{version}_{kind.lower()}.json"  # kubeconform calls the group of v1 v1


def _strict(schema: Any) -> Any:
    """The same, with unknown fields refused, and numbers or strings where Kubernetes takes either."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    if "Quantity is a fixed-point" in str(schema.get("description", "")):
        return {"type": ["string", "number"]}
    made = {key: _strict(value) for key, value in schema.items() if key != "description" or isinstance(value, dict)}
    open_to_all = schema.get("x-kubernetes-preserve-unknown-fields") is True
    if isinstance(schema.get("properties"), dict) and not open_to_all:
        made.setdefault("additionalProperties", False)
    return made
