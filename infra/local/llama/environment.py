"""The Llama Stack server's own virtual environment: its pins fit nothing else, so nothing else shares it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

LOCK = Path(__file__).resolve().parents[3] / "requirements" / "llama-stack.txt"
"""The pinned versions with their hashes, made from llama-stack.in."""

_STAMP = "installed.sha256"


class InstallError(Exception):
    """The environment could not be made; the text says which step failed and ends with what the installer said."""


def ensure(venv_dir: Path, progress: Callable[[str], None], lock: Path = LOCK) -> Path:
    """Make the environment at `venv_dir` if it is not there or not of this `lock`; give its Python.

    `progress` gets a line of text now and then. What was installed halfway is done anew; callers at the same
    time wait for one another; a second call is instant. Raises InstallError when neither uv nor pip can
    install it.
    """
    venv_dir = venv_dir.absolute()
    wanted = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    python = venv_dir / "bin" / "python"
    if _is_done(venv_dir, python, wanted):
        return python
    venv_dir.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(venv_dir.with_name(venv_dir.name + ".lock"), progress) as held:
        if _is_done(venv_dir, python, wanted):
            return python
        progress("Llama Stack: installing the server into an environment of its own (about 300 MB, once)")
        run = partial(_run, progress, held)
        try:
            _install_with_uv(venv_dir, python, lock, run)
        except InstallError as error:
            progress(f"Llama Stack: uv could not do it ({error}); trying pip")
            _install_with_pip(venv_dir, python, lock, run)
        stamp = venv_dir / _STAMP
        written = stamp.with_suffix(".partial")
        written.write_text(wanted, encoding="ascii")
        written.replace(stamp)
    progress("Llama Stack: installed")
    return python


def _is_done(venv_dir: Path, python: Path, wanted: str) -> bool:
    try:
        return python.exists() and (venv_dir / _STAMP).read_text(encoding="ascii") == wanted
    except OSError:
        return False


@contextlib.contextmanager
def _only_one(path: Path, progress: Callable[[str], None]) -> Iterator[int]:
    """Hold a lock on a file and give its descriptor; the kernel lets go when all that have it are gone."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("Llama Stack: another process is installing it; waiting for that")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _install_with_uv(venv_dir: Path, python: Path, lock: Path, run: Callable[[Sequence[str]], None]) -> None:
    uv = [sys.executable, "-m", "uv"]
    shutil.rmtree(venv_dir, ignore_errors=True)
    run([*uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(venv_dir)])
    # Bytecode is compiled now: without it, the first start takes seconds longer.
    options = ["--python", str(python), "--require-hashes", "--compile-bytecode", "--requirements", str(lock)]
    run([*uv, "pip", "install", "--no-progress", *options])


def _install_with_pip(venv_dir: Path, python: Path, lock: Path, run: Callable[[Sequence[str]], None]) -> None:
    shutil.rmtree(venv_dir, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(venv_dir)])
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    run([str(python), "-m", "pip", "install", *options, "--require-hashes", "-r", str(lock)])


def _run(progress: Callable[[str], None], held: int, command: Sequence[str]) -> None:
    """Run an installer, passing on what it says; a failure ends with the last line of that.

    It inherits the lock's descriptor `held`: should we be killed, the next caller waits until it has ended.
    """
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    last = ""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(held,),
    )
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)  # Ctrl-C, or `progress` failed
        for line in process.stdout or ():
            last = line.strip() or last
            if line.strip() and not line.lstrip().startswith("+ "):  # uv names every package so
                progress("  " + line.strip())
        stack.pop_all()
    if process.returncode:
        step = " ".join(part for part in command[1:5] if not part.startswith("/"))
        raise InstallError(f"{step}: exit {process.returncode}: {last}")
