"""The function directories and the topology table agree; nothing in the tree names a package registry."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
_ADDRESS = re.compile(r"--(extra-)?index-url\s+https?://|/packages/[^\s]*\.(whl|tar\.gz)#|\"resolved\":\s*\"https?://")
_LOCKS = re.compile(r"(^|/)(uv\.lock|poetry\.lock|Pipfile\.lock)$")
_FLASK_PART = re.compile(r"/<\w+>.*$")


def problems() -> list[str]:
    """A line for each disagreement."""
    return [*topology_problems(ROOT), *address_problems(ROOT)]


def topology_problems(root: Path) -> list[str]:
    """The table's functions are the directories; each func.py declares the table's name, kind and paths."""
    table: dict[str, dict[str, Any]] = yaml.safe_load((root / "infra/topology.yaml").read_text())["functions"]
    directories = {path.parent.name for path in root.glob("functions/*/func.py")}
    found = [f"functions/{name} is not in infra/topology.yaml" for name in sorted(directories - set(table))]
    found += [
        f"infra/topology.yaml names {name}, which has no functions/{name}/func.py"
        for name in sorted(set(table) - directories)
    ]
    for name in sorted(directories & set(table)):
        declared = _declared(root / "functions" / name / "func.py")
        row = table[name]
        if declared["name"] != name or declared["kind"] != row["kind"]:
            found.append(
                f"functions/{name}/func.py declares {declared['name']!r}, {declared['kind']!r}, not the table's row"
            )
        paths = {_FLASK_PART.sub("", path) for path in declared["paths"]}
        if paths != set(row.get("paths", [])):
            found.append(f"functions/{name}/func.py serves {sorted(paths)}, the table says {row.get('paths', [])}")
        # parliament itself routes /, so a func.py declares only what is below.
        pages = {_FLASK_PART.sub("", page) for page in declared["pages"]}
        if pages != set(row.get("pages", [])) - {"/"}:
            found.append(f"functions/{name}/func.py has the pages {sorted(pages)}, the table {row.get('pages', [])}")
    return found


def address_problems(root: Path) -> list[str]:
    """No tracked file holds a registry's address or is a lock file that would."""
    tracked = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True).stdout.split("\n")
    found = [f"{name} must not be committed" for name in tracked if _LOCKS.search(name)]
    for name in filter(None, tracked):
        path = root / name
        if path.suffix in {".txt", ".toml", ".json", ".yaml", ".yml", ".in", ".cfg", ""} and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            if _ADDRESS.search(text) and name != "infra/checks/tree.py":
                found.append(f"{name} names a package registry's address")
    return found


def _declared(path: Path) -> dict[str, Any]:
    """What a func.py passes to Function(…), read from its syntax: importing it would need its settings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Function":
            paths, pages = (
                next((word.value for word in node.keywords if word.arg == argument), ast.Tuple(elts=[]))
                for argument in ("paths", "pages")
            )
            assert isinstance(paths, ast.Tuple)
            assert isinstance(pages, ast.Tuple)
            name, kind = (ast.literal_eval(one) for one in node.args)
            return {
                "name": name,
                "kind": kind,
                "paths": [constants[one.id] if isinstance(one, ast.Name) else ast.literal_eval(one) for one in paths.elts],
                "pages": [ast.literal_eval(one) for one in pages.elts],
            }
    raise ValueError(f"{path} declares no Function")
