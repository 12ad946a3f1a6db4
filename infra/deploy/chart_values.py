"""docs/chart.md: every value of the chart, from values.yaml (defaults, and the comment beside each) and its schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

VALUES = "infra/chart/values.yaml"
SCHEMA = "infra/chart/values.schema.json"

_HEAD = """# Values of the chart

Made from [values.yaml](../infra/chart/values.yaml) and its schema: `make generate`. A value that is not here, or is none of
what it may be, is refused by `helm` (values.schema.json). Sets to start from:
[infra/chart/values](../infra/chart/values). Variables of `settings` that are not here: [configuration.md](configuration.md).
"""


@dataclass(frozen=True)
class Value:
    """One value: its path, its default as values.yaml writes it, what it may be, and what it means."""

    path: str
    default: str
    allowed: str
    meaning: str


def values(root: Path) -> list[Value]:
    """Every value, in the file's order. `allowed` is empty where the schema has none, `meaning` without comment."""
    text = (root / VALUES).read_text(encoding="utf-8")
    schema = json.loads((root / SCHEMA).read_text(encoding="utf-8"))
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(document, yaml.MappingNode)
    return list(_values(document, schema, "", text.splitlines()))


def page(root: Path) -> str:
    """The text of docs/chart.md."""
    lines, group = [_HEAD], ""
    for one in values(root):
        top = one.path.split(".")[0]
        if top != group:
            lines += ["", f"## {top}", "", "| value | default | may be | |", "|---|---|---|---|"]
            group = top
        lines.append(f"| `{one.path}` | `{one.default}` | {_cell(one.allowed)} | {_cell(one.meaning)} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _cell(text: str) -> str:
    """Text for a table: what looks like a tag is shown, except in code, where it is shown anyway."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts))


def _values(node: yaml.MappingNode, schema: dict[str, Any], prefix: str, lines: list[str]) -> Iterator[Value]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        rule = schema.get("properties", {}).get(key.value) or schema.get("additionalProperties") or {}
        rule = rule if isinstance(rule, dict) else {}
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from _values(value, rule, f"{path}.", lines)
            continue
        before, _, comment = lines[key.start_mark.line].partition("  #")
        default = before.partition(":")[2].strip() or ", ".join(one.value for one in value.value)
        yield Value(path, default, _allowed(rule), comment.strip())
        row = rule.get("additionalProperties")
        if isinstance(row, dict):  # a mapping of names: what each may have is only in the schema
            for name, one in row.get("properties", {}).items():
                yield Value(f"{path}.<name>.{name}", "infra/topology.yaml", _allowed(one), one.get("description", ""))


def _allowed(rule: dict[str, Any]) -> str:
    """What the schema lets through, in words."""
    if "enum" in rule:
        return ", ".join(f"`{one}`" for one in rule["enum"])
    kinds = rule.get("type", "")
    said = " or ".join(kinds) if isinstance(kinds, list) else kinds
    least, most = rule.get("minimum"), rule.get("maximum")
    if least is not None:
        said += f", {least}–{most}" if most is not None else f", at least {least}"
    if said == "object" and (properties := rule.get("properties")):
        said = ", ".join(f"`{name}` ({_allowed(one)})" for name, one in properties.items())
    if said == "array" and (items := rule.get("items")):
        said = f"list of {_allowed(items)}"
    return said
