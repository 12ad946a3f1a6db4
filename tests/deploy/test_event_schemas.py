"""While an upgrade runs, each release reads the other's events: the schemas of their data may only gain optional fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.deploy import release
from tests.parts.functions import ROOT

SCHEMAS = "docs/contracts/schemas"
_SAID_TO_PEOPLE = frozenset({"$id", "$schema", "default", "description", "title"})
Schema = dict[str, Any]


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """What keeps one of the two from reading what the other writes: a line each.

    A field that both know must mean the same: what a reader takes and what a writer sends is one schema.
    """
    if not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            yield f"{path}: {json.dumps(old)} became {json.dumps(new)}"
        return
    for key in sorted((old.keys() | new.keys()) - _SAID_TO_PEOPLE):
        was, now = old.get(key), new.get(key)
        if key == "required":
            yield from (f"{path}: {name} is no longer required" for name in sorted({*(was or ())} - {*(now or ())}))
            yield from (f"{path}: {name} became required" for name in sorted({*(now or ())} - {*(was or ())}))
        elif key in ("properties", "$defs"):
            for name, field in sorted((was or {}).items()):
                if name in (now or {}):
                    yield from differences(field, new[key][name], f"{path}/{name}")
                else:
                    yield f"{path}: {name} is gone"
        else:
            yield from differences(was, now, f"{path}/{key}")


@pytest.fixture(scope="module")
def old_schemas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Schema]:
    tree = release.unpack(release.previous(ROOT), tmp_path_factory.mktemp("release"))
    return read(tree)


def read(tree: Path) -> dict[str, Schema]:
    return {path.name: json.loads(path.read_text()) for path in sorted((tree / SCHEMAS).glob("*.json"))}


def test_each_release_can_read_the_events_of_the_other(old_schemas: dict[str, Schema]) -> None:
    new = read(ROOT)
    assert {"request.created.1.json", "session.created.1.json", "agent.response-ready.1.json"} <= old_schemas.keys()
    assert old_schemas.keys() <= new.keys()
    assert [line for name, old in old_schemas.items() for line in differences(old, new[name], name)] == []


def _forget(schema: Schema) -> None:
    del schema["$defs"]["NormalizedRequest"]["properties"]["context"]


def _demand(schema: Schema) -> None:
    schema["$defs"]["NormalizedRequest"]["properties"]["tenant"] = {"type": "string"}
    schema["$defs"]["NormalizedRequest"]["required"].append("tenant")


def _leave_out(schema: Schema) -> None:
    schema["$defs"]["NormalizedRequest"]["required"].remove("user_id")


def _narrow(schema: Schema) -> None:
    schema["$defs"]["NormalizedRequest"]["properties"]["request_id"]["maxLength"] = 64


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_forget, "/NormalizedRequest: context is gone"),
        (_demand, "/NormalizedRequest: tenant became required"),
        (_leave_out, "/NormalizedRequest: user_id is no longer required"),
        (_narrow, "/NormalizedRequest/request_id/maxLength: 128 became 64"),
    ],
)
def test_a_change_that_one_of_the_two_cannot_read_is_named(
    old_schemas: dict[str, Schema], change: Callable[[Schema], None], said: str
) -> None:
    old = old_schemas["session.created.1.json"]
    new = json.loads(json.dumps(old))
    change(new)
    assert list(differences(old, new)) == [said]


def test_a_new_field_that_may_be_missing_is_none() -> None:
    old = {"properties": {"a": {"type": "string"}}, "required": ["a"]}
    new = {"properties": {"a": {"type": "string", "description": "Said better."}, "b": {"default": 1}}, "required": ["a"]}
    assert list(differences(old, new)) == []
