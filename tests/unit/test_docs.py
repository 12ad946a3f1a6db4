"""The documentation is about this code: what it names is there, and what a reader has to know of is named."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("common", "functions", "infra")
CONFIGURATION = ROOT / "docs/configuration.md"

# How a variable is read: by a helper of common.settings, or from the environment itself.
_READERS = {"text", "optional", "choice", "number", "integer", "flag", "url", "mounted"}
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_SUBSTITUTED = re.compile(r"\$\{([A-Z][A-Z0-9_]*)")  # in the agents' files
# Conventions of the machine that are passed on, not settings of ours.
_FOREIGN = {"NO_PROXY"}
_CODE_IN_MARKDOWN = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
    return [path for path in found if path.exists()]


def sources() -> Iterator[Path]:
    for directory in CODE:
        yield from sorted((ROOT / directory).rglob("*.py"))


def is_environment(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environ"


def names_read(tree: ast.AST) -> Iterator[ast.expr]:
    """The expressions that name a variable where one is read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            owner, method = node.func.value, node.func.attr
            is_setting = isinstance(owner, ast.Name) and owner.id == "settings" and method in _READERS
            if is_setting or (is_environment(owner) and method in ("get", "pop", "setdefault")):
                yield node.args[0]
        elif isinstance(node, ast.Subscript) and is_environment(node.value):
            yield node.slice
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In) and is_environment(node.comparators[0]):
            yield node.left


@cache
def variables() -> dict[str, str]:
    """Every environment variable that the code reads, and a file that does."""
    found: dict[str, str] = {}
    for path in sources():
        where = str(path.relative_to(ROOT))
        for name in names_read(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and _NAME.fullmatch(name.value):
                found.setdefault(name.value, where)
    for path in ROOT.glob("functions/*/agents/*.yaml"):
        for name in _SUBSTITUTED.findall(re.sub(r"#.*", "", path.read_text(encoding="utf-8"))):
            found.setdefault(name, str(path.relative_to(ROOT)))
    return {name: where for name, where in found.items() if name not in _FOREIGN}


def documented() -> set[str]:
    """The variables that stand in the first column of a table of docs/configuration.md."""
    rows = re.findall(r"^\| `([A-Z][A-Z0-9_]*)` \|", CONFIGURATION.read_text(encoding="utf-8"), re.MULTILINE)
    return set(rows)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_scan_sees_each_way_of_reading_a_variable() -> None:
    tree = ast.parse('settings.url("A"); os.environ.get("B"); os.environ["C"]; "D" in os.environ; settings.state("E")')
    assert {ast.literal_eval(name) for name in names_read(tree)} == {"A", "B", "C", "D"}
    assert {"PORT", "POSTGRES_HOST", "AGENT_MODEL", "K_SERVICE", "DEMO_MODEL_DELAY_MS"} <= set(variables())


def test_every_variable_that_is_read_is_in_the_configuration() -> None:
    text = set(_NAME.findall(CONFIGURATION.read_text(encoding="utf-8")))
    missing = {name: where for name, where in variables().items() if name not in text}
    assert not missing, f"docs/configuration.md does not name {missing}"


def test_the_configuration_names_no_variable_that_nobody_reads() -> None:
    assert documented(), "no table of variables was found"
    assert not documented() - set(variables())


def test_the_example_environment_names_only_variables_that_are_read() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    named = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]*)=", example, re.MULTILINE))
    assert named
    assert not named - set(variables())


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (path.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(path: Path) -> None:
    code = "\n".join(_CODE_IN_MARKDOWN.findall(path.read_text(encoding="utf-8")))
    named = set(re.findall(r"(?:^|[\s`])make ([a-z][a-z-]*)", code))
    assert not named - targets()


def test_every_metric_is_explained() -> None:
    metrics = set(re.findall(r'"(self_service_agent_\w+)"', (ROOT / "common/metrics.py").read_text(encoding="utf-8")))
    explained = set(re.findall(r"^\| `(self_service_agent_\w+)`", (ROOT / "docs/operations.md").read_text(), re.MULTILINE))
    assert metrics == explained
