"""An image made by pack starts with its bytecode: what Paketo and its lifecycle do is done here, by func.yaml's settings.

Known from their sources (docs/adr/0008): the build is told PYTHONPYCACHEPREFIX=/tmp unless func.yaml says otherwise, pip
compiles, the lifecycle sets every file's time to 1980, a pod is told PYTHONPYCACHEPREFIX=$HOME/.pycache unless it is set.
The Python of the image itself is not looked at.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infra.deploy import bytecode
from tests.deploy.image import python
from tests.parts.functions import ROOT
from tests.parts.net import free_port

NAME = "dead-letter"  # has a module beside func.py
NORMALISED = 315532801  # 1980-01-01T00:00:01Z, the lifecycle's time of every file
_COMPILED = re.compile(r"^# code object from '?(/[^']+\.py)'?$", re.MULTILINE)


@pytest.fixture(scope="module")
def interpreter() -> str:
    return python()


@pytest.fixture(scope="module")
def app(wheel: Path, interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The function's directory as `make vendor` leaves it."""
    directory = tmp_path_factory.mktemp("workspace") / NAME
    shutil.copytree(ROOT / "functions" / NAME, directory, ignore=shutil.ignore_patterns("__pycache__", "wheels"))
    (directory / "wheels").mkdir()
    shutil.copy(wheel, directory / "wheels")
    bytecode.write(directory, interpreter)
    return directory


def settings(app: Path, part: str, name: str) -> dict[str, str]:
    """What func.yaml says plainly to the build or the pod."""
    document = yaml.safe_load((app / "func.yaml").read_text())
    given = {one["name"]: one["value"] for one in document[part][name] if "name" in one}
    return {name: value for name, value in given.items() if "{{" not in value}


def build(app: Path, interpreter: str, place: Path, told: dict[str, str]) -> Path:
    """pip as the buildpack runs it; the packages' directory, with the times that an exported image has."""
    packages = place / "packages"
    command = [sys.executable, "-m", "pip", "--python", interpreter, "install", "--requirement", "requirements.txt"]
    command += ["--compile", "--target", str(packages), "--quiet", "--disable-pip-version-check"]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(place / "tmp"), **told}
    done = subprocess.run(command, cwd=app, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for path in (*app.rglob("*"), *packages.rglob("*")):
        os.utime(path, (NORMALISED, NORMALISED), follow_symlinks=False)
    return packages


def compiled_at_start(app: Path, packages: Path, interpreter: str, told: dict[str, str]) -> list[str]:
    """Which modules of ours and of the packages a start compiles, on a file system that it cannot write to."""
    program = "import sys; sys.argv = ['host', '.']; from common.host import Host; sys.path.insert(0, '.'); import func"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(packages),
        "PYTHONPYCACHEPREFIX": str(packages / "home/.pycache"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONVERBOSE": "1",
        "BROKER_URL": f"http://127.0.0.1:{free_port()}/",
        **told,
    }
    done = subprocess.run(
        [interpreter, "-c", program], cwd=app, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, [line for line in done.stderr.splitlines() if not line.startswith(("#", "import "))]
    found = [Path(path).resolve() for path in _COMPILED.findall(done.stderr)]
    return [str(path) for path in found if path.is_relative_to(packages) or path.is_relative_to(app)]


@pytest.mark.timeout(300)  # pip compiles every package
def test_a_pod_of_an_image_made_by_pack_compiles_nothing(app: Path, interpreter: str, tmp_path: Path) -> None:
    packages = build(app, interpreter, tmp_path, settings(app, "build", "buildEnvs"))
    assert compiled_at_start(app, packages, interpreter, settings(app, "run", "envs")) == []
    # Without what func.yaml tells the pod, it would: so the list above is not empty for want of looking.
    assert len(compiled_at_start(app, packages, interpreter, {})) > 100


def test_a_module_that_is_changed_after_make_vendor_is_compiled_anew(interpreter: str, tmp_path: Path) -> None:
    module = tmp_path / "answer.py"
    module.write_text("print('old')\n")
    os.utime(module, (NORMALISED, NORMALISED))
    bytecode.write(tmp_path, interpreter)
    module.write_text("print('new')\n")  # as long as it was, and of the same time
    os.utime(module, (NORMALISED, NORMALISED))
    done = subprocess.run([interpreter, "-c", "import answer"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "new\n"
