"""The wheel of common: built, put into every function's directory, and never changed under an old version.

pip and func look at versions, not at content: a changed wheel of the same version is not installed again. So
infra/deploy/common.lock keeps the content's hash of the version that was last recorded.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from infra.deploy import bytecode

LOCK = "infra/deploy/common.lock"
EXCLUDED = "functions/*/wheels/"


class WheelError(Exception):
    """The wheel must not be made; the text says in one line why, and what to do."""


def content_hash(root: Path) -> str:
    """SHA-256 over every file of common that goes into the wheel, and over what the wheel requires."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    digest = hashlib.sha256()
    digest.update(json.dumps([project["dependencies"], project["optional-dependencies"]]).encode())
    paths = [path for path in (root / "common").rglob("*") if path.suffix in (".py", ".sql", ".typed")]
    paths += [path for path in (root / "common").rglob("py.typed") if path not in paths]
    for path in sorted(paths):
        digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def version(root: Path) -> str:
    """The version in pyproject.toml."""
    return str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def problems(root: Path) -> list[str]:
    """A line when common changed and its version did not."""
    recorded = (root / LOCK).read_text(encoding="utf-8").split() if (root / LOCK).is_file() else ["", ""]
    now = [version(root), content_hash(root)]
    if recorded == now:
        return []
    if recorded[0] == now[0]:
        return [f"common changed, its version is still {now[0]}: make bump"]
    return [f"{LOCK} records {recorded[0] or 'nothing'}, pyproject.toml says {now[0]}: make generate"]


def record(root: Path) -> None:
    """Record a new version's content.

    Raises WheelError when the version was recorded with other content.
    """
    found = problems(root)
    if not found:
        return
    if "make bump" in found[0]:
        raise WheelError(found[0])
    (root / LOCK).write_text(f"{version(root)} {content_hash(root)}\n", encoding="utf-8")


def bump(root: Path) -> str:
    """Raise the last number of the version in pyproject.toml; the new version."""
    path = root / "pyproject.toml"
    old = version(root)
    head, last = old.rsplit(".", 1)
    new = f"{head}.{int(last) + 1}"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(rf'(?m)^version = "{re.escape(old)}"$', f'version = "{new}"', text, count=1), encoding="utf-8")
    return new


def build(root: Path, directory: Path, extras: tuple[str, ...] = ()) -> Path:
    """Build the wheel into `directory`; its path. What it needs by itself includes these `extras`, whoever installs it.

    Raises WheelError when there is no such extra, subprocess.CalledProcessError when the build fails.
    """
    # From a copy: setuptools leaves build/ and an .egg-info where it builds.
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(root / name, here)
        _require(here / "pyproject.toml", extras)
        shutil.copytree(root / "common", here / "common", ignore=shutil.ignore_patterns("__pycache__"))
        command = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(directory), str(here)]
        subprocess.run(command, check=True)
    return directory / f"self_service_agent_common-{version(root)}-py3-none-any.whl"


def vendor(root: Path, extras: tuple[str, ...] = (), python: str | None = None) -> list[Path]:
    """Put the wheel into functions/*/wheels/; the places. Every function gets `extras` (otel) beside those it imports.

    With the images' `python` the functions' own modules are compiled too.
    No committed file says so: requirements.txt names the wheel, and the wheel says what it needs.
    The wheels are kept out of commits by .git/info/exclude and not by .gitignore: `func deploy --remote` leaves out what
    .gitignore names. Raises WheelError when common changed under a recorded version, and what build raises.
    """
    if found := problems(root):
        raise WheelError(found[0])
    with tempfile.TemporaryDirectory() as folder:
        built = build(root, Path(folder), extras)
        places = []
        for function in sorted(root.glob("functions/*/func.py")):
            wheels = function.parent / "wheels"
            shutil.rmtree(wheels, ignore_errors=True)
            wheels.mkdir()
            places.append(Path(shutil.copy(built, wheels)))
            if python:
                bytecode.write(function.parent, python)
    _exclude(root)
    return places


def _require(pyproject: Path, extras: tuple[str, ...]) -> None:
    text = pyproject.read_text(encoding="utf-8")
    optional = tomllib.loads(text)["project"]["optional-dependencies"]
    if unknown := [one for one in extras if one not in optional]:
        raise WheelError(f"EXTRAS: common has no extra {', '.join(unknown)}; it has {', '.join(sorted(optional))}")
    lines = "".join(f"    {json.dumps(one)},\n" for extra in extras for one in optional[extra])
    pyproject.write_text(text.replace("\ndependencies = [\n", f"\ndependencies = [\n{lines}", 1), encoding="utf-8")


def _exclude(root: Path) -> None:
    path = root / ".git/info/exclude"
    if not path.parent.is_dir():
        return
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if EXCLUDED not in lines:
        path.write_text("\n".join([*lines, EXCLUDED]) + "\n", encoding="utf-8")
