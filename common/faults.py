"""Named fault points, for chaos tests. Off, a point is a call of an empty function; nothing else is left of it.

`FAULTS` switches them on: `point=action[:probability[:times]]`, separated by `;`. A point is a name, or a prefix ending
in `*`; the first rule that covers it and whose dice say so acts. Actions: `raise` (InjectedFault, which the host answers
500), `hang` (FAULTS_HANG_SECONDS, default 30), `kill` (SIGKILL to this process). `times` are those of one process: one that
was killed and started again begins anew. The dice of a process are made from `FAULTS_SEED` and its id, or the one that
is started after a kill would die at the same place for ever. `FAULTS_LOG` names a file that gets a line for each fault that
fired: a run in which none did has tested nothing.

`FAULTS_CONTROL` names a file to read the rules from instead. It is looked at again at every point, so that a test can change
them while the functions run: replace it whole (rename). No file, or an empty one, is no rule.

The points: `step.<statement>.before` and `.after` (around each commit), `agent.answered` (the model has answered, nothing is
committed), `reply` (a function is done, its answer has not left), `publish.before` and `.after` (around the broker's
acceptance), `deliver.before` and `.after` (around a send to Slack or a webhook), `placeholder.before` and
`.after` (around the post of Slack's "thinking" sign).
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common import settings
from common.errors import SettingError

_ACTIONS = ("raise", "hang", "kill")
_FORM = "FAULTS must be point=raise|hang|kill[:probability[:times]], separated by ;"


class InjectedFault(Exception):
    """A fault point was told to raise."""


@dataclass
class _Rule:
    point: str
    action: str
    probability: float
    times: int | None

    def covers(self, name: str) -> bool:
        return name == self.point or (self.point.endswith("*") and name.startswith(self.point[:-1]))


class _Faults:
    """The rules, and the dice. `control` is the file that the rules are read from, None when they stay as they are."""

    def __init__(self, rules: list[_Rule], control: str | None = None) -> None:
        self._rules = rules
        self._control = control
        self._version: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._dice = random.Random(f"{settings.text('FAULTS_SEED', '0')}:{os.getpid()}")  # noqa: S311 - not for secrets
        self._hang = settings.number("FAULTS_HANG_SECONDS", 30, least=0, most=3600)
        self._log = settings.optional("FAULTS_LOG")

    def point(self, name: str) -> None:
        """Do what the rules say is to happen here."""
        action = self._choose(name)
        if action is None:
            return
        self._note(name, action)
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if action == "hang":
            time.sleep(self._hang)
            return
        raise InjectedFault(name)

    def _choose(self, name: str) -> str | None:
        with self._lock:
            if self._control is not None:
                self._read(self._control)
            for rule in self._rules:
                if rule.covers(name) and rule.times != 0 and self._dice.random() < rule.probability:
                    if rule.times is not None:
                        rule.times -= 1
                    return rule.action
        return None

    def _read(self, control: str) -> None:
        """Take the rules anew when the file is another one than at the last look."""
        try:
            with Path(control).open(encoding="utf-8") as file:
                found = os.fstat(file.fileno())
                version = (found.st_ino, found.st_mtime_ns)
                if version != self._version:
                    self._rules, self._version = _parse(file.read()), version
        except FileNotFoundError:
            self._rules, self._version = [], None

    def _note(self, name: str, action: str) -> None:
        if self._log is None:
            return
        # One write of one line: whole even when several processes append, and in the kernel before a kill.
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{time.time():.6f} {os.getpid()} {name} {action}\n".encode())
        finally:
            os.close(descriptor)


def _parse(text: str) -> list[_Rule]:
    rules = []
    for part in filter(None, (one.strip() for one in text.split(";"))):
        point, _, rest = part.partition("=")
        action, *numbers = rest.split(":")
        try:
            probability = float(numbers[0]) if numbers else 1.0
            times = int(numbers[1]) if len(numbers) > 1 else None
        except ValueError:
            raise SettingError(_FORM) from None
        is_known = bool(point) and action in _ACTIONS and len(numbers) <= 2
        if not is_known or not 0 <= probability <= 1 or (times is not None and times < 1):
            raise SettingError(_FORM)
        rules.append(_Rule(point, action, probability, times))
    return rules


def _off(_name: str) -> None:
    """Nothing: what every point is when FAULTS is not set."""


def from_environment() -> Callable[[str], None]:
    """What a point does in this process.

    Raises SettingError when FAULTS is not of its form.
    """
    text, control = settings.optional("FAULTS"), settings.optional("FAULTS_CONTROL")
    if control is not None:
        return _Faults([], control).point
    return _Faults(_parse(text)).point if text else _off


point: Callable[[str], None] = _off


def switch_on() -> None:
    """Make the points do what the environment says; the host calls this once, before it loads the function.

    Raises SettingError when FAULTS is not of its form.
    """
    global point
    point = from_environment()
