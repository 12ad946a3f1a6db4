"""What func needs in a function's directory, made from the table and the templates: func.yaml, Procfile, requirements …"""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from infra.deploy import bytecode
from infra.deploy.table import NAME, PUBLISHES, Function

PYTHON = "3.12"  # for pack and s2i
TEMPLATES = "func.yaml-templates"
EXECUTABLE = frozenset({"app.sh"})

PROCFILE = "web: python -m common.host .\n"
APP_SH = """#!/bin/sh
# What an s2i image starts; the same as the Procfile's line.
exec python -m common.host "$(dirname "$0")"
"""
FUNCIGNORE = """# What does not belong in the image. wheels/ (common) and __pycache__ (make vendor compiles) do.
.git
.venv
README.md
"""

# What `make vendor EXTRAS=…` may add to any function: always pinned, installed only then.
ADDED = ("otel",)

# Which import needs which extra of common (pyproject.toml).
_EXTRAS = {
    "psycopg": "database",
    "psycopg_pool": "database",
    "jwt": "jwt",
    "slack_sdk": "slack",
    "standardwebhooks": "webhook",
    "llama_stack_client": "agent",
    "yaml": "agent",
}


def files(root: Path, function: Function) -> dict[str, str]:
    """The generated files of functions/<name>/ by name."""
    words: dict[str, Any] = {
        "f": function,
        "kind": function.kind,
        "part_of": NAME,
        "publishes": PUBLISHES,
        "python": PYTHON,
        "build_env": {**bytecode.IN_PLACE, **bytecode.BY_HASH},
        "run_env": bytecode.IN_PLACE,
        "doc": _doc(root / "functions" / function.name / "func.py"),
    }
    wanted = extras(root, function.name)
    return {
        "func.yaml": _templates(root).get_template(f"{function.kind}.yaml.tmpl").render(words),
        "README.md": _templates(root).get_template("README.md.tmpl").render(words),
        "Procfile": PROCFILE,
        "app.sh": APP_SH,
        ".funcignore": FUNCIGNORE,
        "requirements.txt": requirements(root, wanted),
        "constraints.txt": constraints(root, (*wanted, *ADDED)),
    }


def wheel_name(root: Path) -> str:
    """The file name of common's wheel."""
    return f"self_service_agent_common-{version(root)}-py3-none-any.whl"


def version(root: Path) -> str:
    """The version of common."""
    return str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def requirements(root: Path, wanted: tuple[str, ...]) -> str:
    """One line: the wheel of common with the extras that the function imports."""
    chosen = f"[{','.join(wanted)}]" if wanted else ""
    return (
        "# Made by make generate; make vendor puts the wheel there.\n"
        f"-c constraints.txt\n./wheels/{wheel_name(root)}{chosen}\n"
    )


def constraints(root: Path, wanted: tuple[str, ...]) -> str:
    """The versions that requirements/dev.txt pins, of everything that common with these extras installs.

    Raises subprocess.CalledProcessError when they cannot be resolved.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *(one for extra in wanted for one in project["optional-dependencies"][extra])]
    return _constraints("\n".join(needed), (root / "requirements/dev.txt").read_text(encoding="utf-8"))


@cache
def _constraints(needed: str, pinned: str) -> str:
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "needed.in").write_text(needed, encoding="utf-8")
        (Path(folder) / "pinned.txt").write_text(pinned, encoding="utf-8")
        command += ["--no-header", "--no-annotate", "--constraint", "pinned.txt", "needed.in"]
        pins = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    # A versioned cloudevents line must stand here: else func's pack builder appends one.
    return f"# Made by make generate from requirements/dev.txt: what is tested is what is built.\n{pins}"


def extras(root: Path, name: str) -> tuple[str, ...]:
    """The extras of common that a function's modules import, also through common, also late."""
    directory = root / "functions" / name
    found: set[str] = set()
    seen: set[Path] = set()
    waiting = [*sorted(directory.glob("*.py")), root / "common/host.py"]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        for module in _imports(path):
            if extra := _EXTRAS.get(module.split(".")[0]):
                found.add(extra)
            if module.startswith("common."):
                waiting.append(root / "common" / f"{module.split('.')[1]}.py")
    return tuple(sorted(found))


def _imports(path: Path) -> list[str]:
    modules = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [f"common.{one.name}" for one in node.names] if node.module == "common" else [node.module]
    return modules


def _doc(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


@cache
def _templates(root: Path) -> Environment:
    environment = Environment(  # noqa: S701 - YAML and Markdown, from our own table
        loader=FileSystemLoader(root / TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["code"] = lambda text: f"`{text}`"
    return environment
