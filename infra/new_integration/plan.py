"""What a new integration consists of: new files from templates, and two edits that leave everything else as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.events import INTEGRATION_NAME

TEMPLATES = "func.yaml-templates/new-integration"
TOPOLOGY = "infra/topology.yaml"
DISPATCH = "functions/response-dispatch"
_MOST_CHARACTERS = 32  # common.events.IntegrationType
_RESERVED = ("request",)  # its RequestBody would hide that of common.bodies
_MAP = re.compile(r"^channels: dict\[str, Channel\] = \{\n(?:    .*\n)*(?=\}\n)", re.MULTILINE)


class NewIntegrationError(Exception):
    """It cannot be made; the text is one line: why."""


@dataclass(frozen=True)
class Names:
    """How it is called: `my-chat` in paths, `my_chat` in modules, `MyChat` in classes, `My Chat` in sentences."""

    name: str

    @property
    def module(self) -> str:
        """As in a module's name."""
        return self.name.replace("-", "_")

    @property
    def title(self) -> str:
        """As in a sentence."""
        return self.name.replace("-", " ").title()

    @property
    def type(self) -> str:
        """As in a class's name."""
        return self.title.replace(" ", "")


def plan(root: Path, name: str) -> dict[str, str]:
    """Every file that is written, by its path in the tree: the new ones, and the two that are changed.

    Raises NewIntegrationError when the name cannot be used or something of it is there.
    """
    names = Names(_checked(name))
    environment = Environment(  # noqa: S701 - Python and YAML, from our own templates
        loader=FileSystemLoader(root / TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )

    def made(template: str) -> str:
        return environment.get_template(template).render(i=names)

    new = {
        f"functions/ingest-{name}/func.py": made("func.py.tmpl"),
        f"{DISPATCH}/{names.module}_channel.py": made("channel.py.tmpl"),
        f"tests/functional/test_ingest_{names.module}.py": made("test_ingest.py.tmpl"),
    }
    for path in new:
        if (root / path).exists():
            raise NewIntegrationError(f"{path} is there already")
    topology = (root / TOPOLOGY).read_text(encoding="utf-8")
    dispatch = (root / DISPATCH / "func.py").read_text(encoding="utf-8")
    return {
        **new,
        TOPOLOGY: with_row(topology, f"ingest-{name}", made("topology.yaml.tmpl")),
        f"{DISPATCH}/func.py": with_channel(dispatch, names),
    }


def with_row(topology: str, function: str, row: str) -> str:
    """The table with the row behind its last ingest function; every other line stays.

    Raises NewIntegrationError when the function is in it, or the table is not of the form that this can change.
    """
    rows = yaml.safe_load(topology)["functions"]
    if function in rows:
        raise NewIntegrationError(f"{TOPOLOGY} has {function} already")
    last = [name for name, one in rows.items() if one["kind"] == "ingest"][-1]
    found = re.search(rf"^  {re.escape(last)}:\n(?:    .*\n)*", topology, re.MULTILINE)
    if found is None:
        raise NewIntegrationError(f"the row of {last} in {TOPOLOGY} cannot be found")
    changed = topology[: found.end()] + "\n" + row + topology[found.end() :]
    after = yaml.safe_load(changed)["functions"]
    if {name: one for name, one in after.items() if name != function} != rows or function not in after:
        raise NewIntegrationError(f"{TOPOLOGY} is not of the form that a row can be added to")
    return changed


def with_channel(dispatch: str, names: Names) -> str:
    """response-dispatch's func.py with the integration in its map of channels, and the import.

    Raises NewIntegrationError when the integration is in the map, or there is no map.
    """
    found = _MAP.search(dispatch)
    if found is None:
        raise NewIntegrationError(f"`channels` in {DISPATCH}/func.py cannot be found")
    if f'"{names.name}":' in found[0]:
        raise NewIntegrationError(f"{DISPATCH}/func.py has a channel {names.name} already")
    entry = f'    "{names.name}": {names.module}_channel.{names.type}Channel(),\n'
    changed = dispatch[: found.end()] + entry + dispatch[found.end() :]
    return changed.replace("\nimport tool_webhook\n", f"\nimport {names.module}_channel\nimport tool_webhook\n", 1)


def _checked(name: str) -> str:
    if not re.fullmatch(INTEGRATION_NAME, name) or len(name) > _MOST_CHARACTERS:
        raise NewIntegrationError(f"NAME must be at most {_MOST_CHARACTERS} of a-z, 0-9 and single -, a letter first")
    if name in _RESERVED:
        raise NewIntegrationError(f"NAME must not be {name}")
    return name
