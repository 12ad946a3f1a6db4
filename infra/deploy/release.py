"""The release before: what a running installation has while it is upgraded, kept for the tests as one archive.

`make release-archive` replaces it when a release is made (docs/upgrade.md).
"""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
import tomllib
from pathlib import Path

DIRECTORY = "tests/deploy/releases"
# What serves, the schema that it came with, and what its events look like.
PARTS = ("common", "functions", "infra/migrations", "docs/contracts/schemas", "pyproject.toml")


class ReleaseError(Exception):
    """There is no such release; the text says in one line why, and what to do."""


def archive(root: Path, commit: str = "HEAD") -> Path:
    """Make a commit's tree the release before, in place of the one that was; the path of its archive.

    Raises ReleaseError when git does not know the commit.
    """
    done = subprocess.run(["git", "archive", "--format=tar", commit, *PARTS], cwd=root, capture_output=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"git archive {commit}: {done.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        project = tar.extractfile("pyproject.toml")
        version = tomllib.loads(project.read().decode())["project"]["version"] if project else ""
    directory = root / DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.tar.gz"):
        old.unlink()
    path = directory / f"{version}.tar.gz"
    path.write_bytes(gzip.compress(done.stdout, mtime=0))
    return path


def previous(root: Path) -> Path:
    """The archive of the release before.

    Raises ReleaseError when there is none, or more than one.
    """
    found = sorted((root / DIRECTORY).glob("*.tar.gz"))
    if len(found) != 1:
        raise ReleaseError(f"{DIRECTORY} holds {len(found)} archives, not one: make release-archive")
    return found[0]


def unpack(path: Path, place: Path) -> Path:
    """Unpack a release's archive into `place`, which becomes the root of its tree; `place`."""
    with tarfile.open(path) as tar:
        tar.extractall(place, filter="data")
    return place
