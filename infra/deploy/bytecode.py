"""Bytecode of the functions' own modules, made before the image is: no builder compiles them (docs/adr/0008).

An image's file system is read-only, so what has no bytecode at its build is compiled anew at every start of a pod.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# What an image's build and its pods are told, so that pip's bytecode gets into the image and is used there. Paketo's CPython
# buildpack else has it written to /tmp at the build, and looked for in $HOME/.pycache at run time.
IN_PLACE = {"PYTHONPYCACHEPREFIX": ""}
# Makes pip record the source's hash instead of its time: an exported image's files are all of 1980, as this says.
BY_HASH = {"SOURCE_DATE_EPOCH": "315532801"}


def interpreter(version: str) -> str | None:
    """The path of this machine's Python of a minor version; None when it has none."""
    try:
        found = subprocess.run(
            [f"python{version}", "-c", "import sys; print(sys.executable)"],
            env={**os.environ, "PYENV_VERSION": version},  # where that command is pyenv's, it asks for this
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def write(directory: Path, python: str) -> None:
    """Compile the modules of a function's directory with this interpreter, in place of what was compiled before.

    By hash: a file that is changed afterwards is compiled at the start, whatever its time says. Raises
    subprocess.CalledProcessError when a module does not compile.
    """
    shutil.rmtree(directory / "__pycache__", ignore_errors=True)
    modules = sorted(str(path) for path in directory.glob("*.py"))
    command = [python, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", *modules]
    subprocess.run(command, check=True, env={**os.environ, **IN_PLACE})
