"""The release before, as `make release-archive` keeps it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from infra.deploy import release


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a first release."""
    root = tmp_path / "repository"
    for part in release.PARTS:
        path = root / part if "." in part else root / part / "file.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("first")
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    commit(root, "0.1.0")
    return root


def commit(root: Path, version: str) -> None:
    (root / "pyproject.toml").write_text(f'[project]\nname = "x"\nversion = "{version}"\n')
    who = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    for command in (["add", "--all"], [*who, "commit", "--quiet", "--message", version]):
        subprocess.run(["git", "-C", str(root), *command], check=True)


def test_a_commits_tree_is_kept_whatever_the_working_tree_says(repository: Path, tmp_path: Path) -> None:
    (repository / "common/file.txt").write_text("not committed")
    path = release.archive(repository)
    assert path.name == "0.1.0.tar.gz"
    assert release.previous(repository) == path
    tree = release.unpack(path, tmp_path / "tree")
    assert (tree / "common/file.txt").read_text() == "first"
    assert sorted(str(one.relative_to(tree)) for one in tree.iterdir()) == sorted({Path(p).parts[0] for p in release.PARTS})


def test_the_next_release_takes_its_place(repository: Path) -> None:
    release.archive(repository)
    commit(repository, "0.2.0")
    assert release.archive(repository).name == "0.2.0.tar.gz"
    assert [path.name for path in (repository / release.DIRECTORY).iterdir()] == ["0.2.0.tar.gz"]
    assert release.archive(repository, "HEAD~1").name == "0.1.0.tar.gz"


def test_what_is_no_release_is_said_in_one_line(repository: Path) -> None:
    with pytest.raises(release.ReleaseError, match="holds 0 archives, not one: make release-archive"):
        release.previous(repository)
    with pytest.raises(release.ReleaseError, match="git archive nothing: "):
        release.archive(repository, "nothing")
