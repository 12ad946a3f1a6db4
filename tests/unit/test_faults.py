"""Named fault points: nothing when off; when on, exactly what the setting says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common import faults
from common.errors import SettingError
from common.faults import InjectedFault
from tests.parts.functions import ROOT

_NAMES = ("FAULTS", "FAULTS_CONTROL", "FAULTS_SEED", "FAULTS_LOG", "FAULTS_HANG_SECONDS")


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)


def fired(count: int, name: str = "reply") -> list[bool]:
    """Whether the point raised, `count` times, in a process with the present settings."""
    point, outcomes = faults.from_environment(), []
    for _ in range(count):
        try:
            point(name)
        except InjectedFault:
            outcomes.append(True)
        else:
            outcomes.append(False)
    return outcomes


def test_off_every_point_is_one_and_the_same_empty_function(monkeypatch: pytest.MonkeyPatch) -> None:
    off = faults.from_environment()
    monkeypatch.setenv("FAULTS", " ")
    assert faults.from_environment() is off
    # Its code loads a constant and returns: nothing is looked up or called.
    assert off.__code__.co_names == ()
    assert off("step.finish_turn.after") is None


def test_a_point_that_is_named_raises_and_no_other_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTS", "step.finish_turn.after=raise")
    assert fired(2, "step.finish_turn.after") == [True, True]
    assert fired(1, "step.finish_turn.before") == [False]


def test_a_prefix_covers_all_points_that_begin_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTS", "step.*=raise")
    assert fired(1, "step.claim_turn.before") == [True]
    assert fired(1, "deliver.before") == [False]


def test_times_bounds_how_often_a_rule_acts_and_then_the_next_rule_has_its_turn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "fired"
    monkeypatch.setenv("FAULTS_LOG", str(log))
    monkeypatch.setenv("FAULTS_HANG_SECONDS", "0")
    monkeypatch.setenv("FAULTS", "reply=raise:1:2; reply=hang:1:1")
    assert fired(5) == [True, True, False, False, False]
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [(name, action) for _, _, name, action in lines] == [("reply", "raise"), ("reply", "raise"), ("reply", "hang")]
    assert all(pid == str(os.getpid()) and abs(float(at) - time.time()) < 60 for at, pid, _, _ in lines)


def test_the_same_seed_makes_the_same_choices_in_a_process_and_another_seed_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTS", "reply=raise:0.3")
    monkeypatch.setenv("FAULTS_SEED", "7")
    first = fired(300)
    assert fired(300) == first
    assert 40 < sum(first) < 150
    monkeypatch.setenv("FAULTS_SEED", "8")
    assert fired(300) != first


def test_hang_waits_its_seconds_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTS", "reply=hang:1:1")
    monkeypatch.setenv("FAULTS_HANG_SECONDS", "0.2")
    started = time.monotonic()
    assert fired(2) == [False, False]
    assert time.monotonic() - started >= 0.2


def test_kill_ends_the_process_at_the_point_and_has_said_so(tmp_path: Path) -> None:
    log = tmp_path / "fired"
    program = "from common import faults; faults.switch_on(); print(1, flush=True); faults.point('agent.answered'); print(2)"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "FAULTS": "agent.*=kill", "FAULTS_LOG": str(log)},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"1\n")
    assert log.read_text().split()[2:] == ["agent.answered", "kill"]


def test_a_control_file_is_read_again_whenever_it_was_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    control = tmp_path / "control"

    def write(rules: str) -> None:
        new = tmp_path / "new"
        new.write_text(rules)
        new.replace(control)

    monkeypatch.setenv("FAULTS_CONTROL", str(control))
    point = faults.from_environment()
    point("reply")  # no file yet
    write("reply=raise:1:1")
    with pytest.raises(InjectedFault):
        point("reply")
    point("reply")  # its one time is over
    write("reply=raise:1:1")
    with pytest.raises(InjectedFault):
        point("reply")
    write("")
    point("reply")
    control.unlink()
    point("reply")


@pytest.mark.parametrize(
    "text",
    [
        "reply",
        "reply=",
        "reply=stop",
        "=raise",
        "reply=raise:often",
        "reply=raise:1.5",
        "reply=raise:-0.1",
        "reply=raise:nan",
        "reply=raise:1:0",
        "reply=raise:1:-1",
        "reply=raise:1:x",
        "reply=raise:1:1:1",
        "reply=raise;publish.before",
    ],
)
def test_a_malformed_setting_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("FAULTS", text)
    with pytest.raises(SettingError, match="FAULTS must be point=raise"):
        faults.from_environment()


def test_a_function_with_a_malformed_setting_does_not_start_and_names_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "common.host", "functions/ingest-web"],
        cwd=ROOT,
        env={**os.environ, "BROKER_URL": "http://127.0.0.1:9", "AUTH_MODE": "none", "FAULTS": "reply=explode"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 78
    assert ended.stderr.count("\n") == 1
    assert "FAULTS must be" in ended.stderr
