"""The requirements files, made from pyproject.toml and checked against it. They hold versions and hashes, no addresses."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Lock:
    """A requirements file and what it is made from."""

    output: str
    inputs: tuple[str, ...]


LOCKS = (
    Lock(
        "requirements/dev.txt",
        (
            "pyproject.toml",
            *(f"--extra={extra}" for extra in ("database", "jwt", "slack", "webhook", "agent", "otel", "cli")),
            "--group=dev",
        ),
    ),
    Lock("requirements/llama-stack.txt", ("requirements/llama-stack.in",)),
)


def write(lock: Lock, output: Path) -> None:
    """Resolve into `output`; versions that it already pins stay as they are.

    Raises subprocess.CalledProcessError when there is no solution or the index does not answer.
    """
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", *lock.inputs, "--output-file", str(output)]
    subprocess.run(command, cwd=ROOT, check=True)


def problems() -> list[str]:
    """A line for each requirements file that is not what its inputs make."""
    found = []
    for lock in LOCKS:
        committed = (ROOT / lock.output).read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / "requirements.txt"
            fresh.write_text(committed, encoding="utf-8")
            write(lock, fresh)
            # Not the hashes: a project may add a wheel to a release that it made before.
            if _pins(fresh.read_text(encoding="utf-8")) != _pins(committed):
                found.append(f"{lock.output} is not what {lock.inputs[0]} makes: make lock")
    return found


def _pins(text: str) -> list[str]:
    return [line.removesuffix(" \\") for line in text.splitlines() if line[:1].strip()]


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m infra.checks.locks --write")
    for one in LOCKS:
        write(one, ROOT / one.output)
