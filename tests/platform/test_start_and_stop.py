"""How a platform starts, refuses to start, and ends: nothing of it is left, and its state is."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import psycopg
import pytest

from tests.parts.net import free_port
from tests.platform.conftest import Start
from tests.platform.support import Platform, until


def said_once(platform: Platform, text: str) -> None:
    assert platform.wait() == 1
    assert [line for line in platform.lines if "✗" in line and text in line], platform.output()
    assert not [line for line in platform.lines if "Traceback" in line], platform.output()
    assert platform.processes() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "web"),
        ("PORT", "70000"),
        ("LLAMA_STACK_URL", "llama"),
        ("PLATFORM_LOG", "some"),
        ("HOST", "no.such.invalid"),
    ],
)
def test_an_unusable_setting_is_one_line_that_names_it(start: Start, tmp_path: Path, name: str, value: str) -> None:
    platform = start(tmp_path / "state", **{name: value})

    said_once(platform, name)
    assert len(platform.lines) == 1
    assert not (tmp_path / "state").exists()


def test_a_llama_stack_that_does_not_answer_is_one_line(start: Start, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    platform = start(tmp_path / "state", LLAMA_STACK_URL=url)

    said_once(platform, f"LLAMA_STACK_URL {url} does not answer")
    assert len(platform.lines) == 1


def test_a_database_that_does_not_answer_is_one_line(start: Start, tmp_path: Path) -> None:
    platform = start(tmp_path / "state", POSTGRES_HOST="127.0.0.1", POSTGRES_PORT=str(free_port()))

    said_once(platform, "POSTGRES_HOST 127.0.0.1")
    assert len(platform.lines) == 1


def test_a_setting_that_a_function_refuses_ends_the_platform_with_that_line(start: Start, tmp_path: Path) -> None:
    platform = start(tmp_path / "state", AUTH_MODE="jwt")

    said_once(platform, "JWT_JWKS_URL")


def test_a_state_directory_that_cannot_be_one_is_one_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    said_once(start(tmp_path / "file" / "state"), "STATE_DIR")


def test_sigterm_leaves_the_state_and_no_process_and_a_killed_platform_leaves_none_either(
    start: Start, tmp_path: Path
) -> None:
    # GIVEN a state directory below one that only its owner can enter
    tmp_path.chmod(0o700)
    state = tmp_path / "state"
    first = start(state)
    first.wait_ready()
    with psycopg.connect(first.description()["database"]["url"], autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    everything = first.processes()
    assert len(everything) > 6

    # WHEN it is asked to stop
    assert first.stop() == 0, first.output()

    # THEN nothing runs, and secrets are for their owner only
    assert first.processes() == []
    for secret in ("postgres-password", "webhook-secret"):
        assert stat.S_IMODE((state / secret).stat().st_mode) == 0o600

    # WHEN a second run on it is killed
    second = start(state)
    second.wait_ready()
    with psycopg.connect(second.description()["database"]["url"]) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
    assert len(second.processes()) > 6
    second.process.send_signal(signal.SIGKILL)
    second.wait()

    # THEN nothing runs either, and a third run has the data
    until(lambda: second.processes() == [], f"no process is left of {second.processes()}")
    third = start(state)
    third.wait_ready()
    with psycopg.connect(third.description()["database"]["url"]) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
    assert third.stop() == 0, third.output()
    assert third.processes() == []
