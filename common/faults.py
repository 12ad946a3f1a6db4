"""Named fault points, for chaos tests. Off, a point is a call of an empty function; nothing else is left of it.

`FAULTS` switches them on: `point=action[:probability[:times]]`, separated by `;`. A point is a name, or a prefix ending
in `*`. Actions: `raise` (InjectedFault, which the host answers 500), `hang` (FAULTS_HANG_SECONDS, default 30), `kill`
(SIGKILL to this process). `FAULTS_SEED` makes the choices repeatable, `FAULTS_LOG` names a file that gets a line for each
fault that fired: a run in which none did has tested nothing.

The points: `step.<statement>.before` and `.after` (around each commit), `agent.answered` (the model has answered, nothing is
committed), `reply` (a function is done, its answer has not left), `publish.before` and `.after` (around the broker's
acceptance), `deliver.before` and `.after` (around a send to Slack or a webhook).
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from common import settings
from common.errors import SettingError

_ACTIONS = ("raise", "hang", "kill")


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
    """The rules of FAULTS, and the dice."""

    def __init__(self, rules: list[_Rule]) -> None:
        self._rules = rules
        self._lock = threading.Lock()
        # Each process its own dice, all of them from the one seed.
        self._dice = random.Random(f"{settings.text('FAULTS_SEED', '0')}:{os.getpid()}")  # noqa: S311 - not for secrets
        self._hang = settings.number("FAULTS_HANG_SECONDS", 30, least=0, most=3600)
        self._log = settings.optional("FAULTS_LOG")

    def point(self, name: str) -> None:
        """Do what FAULTS says is to happen here."""
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
            for rule in self._rules:
                if rule.covers(name) and rule.times != 0 and self._dice.random() < rule.probability:
                    if rule.times is not None:
                        rule.times -= 1
                    return rule.action
        return None

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
            action = ""
        if action not in _ACTIONS or not point or not 0 <= probability <= 1:
            raise SettingError("FAULTS must be point=raise|hang|kill[:probability[:times]], separated by ;")
        rules.append(_Rule(point, action, probability, times))
    return rules


def _off(_name: str) -> None:
    """Nothing: what every point is when FAULTS is not set."""


def from_environment() -> Callable[[str], None]:
    """What a point does in this process.

    Raises SettingError when FAULTS is not of its form.
    """
    text = settings.optional("FAULTS")
    return _Faults(_parse(text)).point if text else _off


point: Callable[[str], None] = from_environment()
