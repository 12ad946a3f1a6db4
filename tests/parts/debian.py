"""Programs of Debian that tests need and no wheel brings."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


def program(package: str, *names: str) -> str:
    """The path of the first of these programs (or of the package's own name) that is installed.

    In CI the package is installed when none is, and the test fails when that cannot be; elsewhere it is skipped.
    """
    found = _find(names or (package,))
    if found is None and _IN_CI and os.geteuid() == 0 and shutil.which("apt-get"):
        _install(package)
        found = _find(names or (package,))
    if found is None:
        missing = f"{package} is not installed (on Debian: apt-get install {package})"
        if _IN_CI:
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def _find(names: tuple[str, ...]) -> str | None:
    path = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"  # servers are there, and not on everybody's PATH
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def _install(package: str) -> None:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Tests run in several processes, and apt-get does not wait for another one's lock.
    with (Path(tempfile.gettempdir()) / "self-service-agent-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", package]):
            subprocess.run(command, env=quiet, check=True, stdout=subprocess.DEVNULL)
