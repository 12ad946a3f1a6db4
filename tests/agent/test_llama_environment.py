"""The server's own environment: made once, redone when it is incomplete or of other versions, never by two at once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.local.llama.environment import InstallError, ensure


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock file that names no package: everything but the download is as with the real one."""
    path = tmp_path / "lock.txt"
    path.write_text("# nothing\n")
    return path


@pytest.fixture
def install(tmp_path: Path, lock: Path) -> Callable[[], list[str]]:
    """Install, and give what was said."""

    def run() -> list[str]:
        said: list[str] = []
        python = ensure(tmp_path / "venv", said.append, lock)
        assert python == tmp_path / "venv" / "bin" / "python"
        return said

    return run


def test_a_second_call_has_nothing_to_do(tmp_path: Path, install: Callable[[], list[str]]) -> None:
    assert install()[-1] == "Llama Stack: installed"

    assert install() == []
    prefix = [str(tmp_path / "venv" / "bin" / "python"), "-c", "import sys; print(sys.prefix != sys.base_prefix)"]
    assert subprocess.run(prefix, capture_output=True, text=True, check=True).stdout.strip() == "True"


def test_an_installation_that_did_not_end_or_has_other_versions_is_redone(
    tmp_path: Path, lock: Path, install: Callable[[], list[str]]
) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to("/nowhere")
    assert install() != []

    lock.write_text("# something else\n")
    assert install() != []
    assert install() == []


def test_of_several_callers_at_once_one_installs_and_the_others_wait(install: Callable[[], list[str]]) -> None:
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: install(), range(4)))

    assert sum("Llama Stack: installed" in lines for lines in said) == 1


def test_what_cannot_be_installed_is_said_in_one_error_and_not_taken_for_done(
    tmp_path: Path, lock: Path, install: Callable[[], list[str]]
) -> None:
    lock.write_text(f"nothing-there @ file://{tmp_path}/missing.whl --hash=sha256:{'0' * 64}\n")

    with pytest.raises(InstallError, match="pip install"):
        install()

    lock.write_text("# nothing\n")
    assert install()[-1] == "Llama Stack: installed"
