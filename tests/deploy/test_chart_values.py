"""values.yaml, its schema and docs/chart.md say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from infra.deploy import chart_values
from tests.parts.functions import ROOT


def test_every_value_is_explained_and_known_to_the_schema() -> None:
    values = chart_values.values(ROOT)
    assert len(values) > 60
    assert [one.path for one in values if not one.meaning] == []
    assert [one.path for one in values if not one.allowed] == []


def test_every_value_that_the_schema_knows_has_a_default() -> None:
    schema = json.loads((ROOT / chart_values.SCHEMA).read_text())
    defaults = yaml.safe_load((ROOT / chart_values.VALUES).read_text())
    # `global` is Helm's own.
    assert [path for path in named(schema, "") if not has(defaults, path) and path != "global"] == []


def named(schema: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, rule in schema.get("properties", {}).items():
        yield f"{prefix}{name}"
        yield from named(rule, f"{prefix}{name}.")


def has(defaults: Any, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(defaults, dict) or name not in defaults:
            return False
        defaults = defaults[name]
    return True


def test_the_page_has_a_row_for_each_value(tmp_path: Path) -> None:
    (tmp_path / "infra/chart").mkdir(parents=True)
    (tmp_path / chart_values.VALUES).write_text(
        "a: 1  # how many <things>, not `<b>`\nf: {}  # by name\n"
        "b:\n  c: {d: []}  # e | f\n  g:  # one each\n    - h\n    - i\n"
    )
    lists = {"type": "array", "items": {"type": "string"}}
    properties = {
        "a": {"type": "integer", "minimum": 1, "maximum": 9},
        "f": {"type": "object", "additionalProperties": {"properties": {"x": {"type": "string", "description": "an x"}}}},
        "b": {"properties": {"c": {"type": "object", "properties": {"d": lists}}, "g": lists}},
    }
    (tmp_path / chart_values.SCHEMA).write_text(json.dumps({"properties": properties}))
    rows = [line for line in chart_values.page(tmp_path).splitlines() if line.startswith("| `")]
    assert rows == [
        "| `a` | `1` | integer, 1–9 | how many &lt;things>, not `<b>` |",
        "| `f` | `{}` | object | by name |",
        "| `f.<name>.x` | `infra/topology.yaml` | string | an x |",
        "| `b.c` | `{d: []}` | `d` (list of string) | e \\| f |",
        "| `b.g` | `h, i` | list of string | one each |",
    ]
