"""The JSON Schema of each event's data, and of each ingest function's body, from the models that read them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from common import events

VERSION = 1
INTEGRATION: dict[str, Any] = TypeAdapter(events.IntegrationType).json_schema()  # the form of an integration's name
# Settings with which any ingest function can be imported; what it reads besides has a default.
_HARMLESS = {"BROKER_URL": "http://broker.invalid", "AUTH_MODE": "none"}
_ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import func
from common.bodies import RequestBody
[body] = RequestBody.__subclasses__()
print(json.dumps([body.__name__, body.model_json_schema(ref_template="#/components/schemas/{model}")]))
"""


def functions(root: Path) -> dict[str, dict[str, Any]]:
    """The topology table's functions."""
    table = yaml.safe_load((root / "infra/topology.yaml").read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = table["functions"]
    return found


def ingest_functions(root: Path) -> list[str]:
    """The functions that take requests, in the table's order."""
    return [name for name, row in functions(root).items() if row["kind"] == "ingest"]


def file_name(event_type: str) -> str:
    """The schema's file: request.created.1.json."""
    return f"{event_type.removeprefix(events.PREFIX)}.{VERSION}.json"


def event_schemas() -> Mapping[str, Mapping[str, Any]]:
    """The JSON Schema (2020-12) of each event type's data by its file's name; `$id` is the event's `dataschema`."""
    return {
        file_name(event_type): {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:self-service-agent:schema:{event_type.removeprefix(events.PREFIX)}:{VERSION}",
            **model.model_json_schema(),
        }
        for event_type, model in events.MODELS.items()
    }


def body_schema(root: Path, function: str) -> tuple[str, dict[str, Any]]:
    """The name and schema of the body that an ingest function takes.

    Asked of the function itself, in a process of its own: every function's module is called func.
    """
    ran = subprocess.run(
        [sys.executable, "-c", _ASK, f"functions/{function}"],
        cwd=root,
        env=_HARMLESS,
        check=True,
        capture_output=True,
        text=True,
    )
    name, schema = json.loads(ran.stdout)
    schema.pop("title", None)
    return str(name), schema
