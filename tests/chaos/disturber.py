"""Carries a plan out: one thread for kills, stops and cuts, one for the fault points."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.chaos.records import Disturbance
from tests.chaos.schedule import HANG_SECONDS, Action, Plan
from tests.chaos.system import System

_ARMED_SECONDS = 6.0  # how long a fault waits for somebody to come by


class Disturber:
    """Breaks things until the plan is through, and writes down what was broken when."""

    def __init__(self, system: System, plan: Plan) -> None:
        self._system = system
        self._plan = plan
        self._over = threading.Event()
        self._went_round = threading.Event()
        self._lock = threading.Lock()
        self._done: list[Disturbance] = []
        self._timers: list[threading.Timer] = []
        self._threads = [threading.Thread(target=work) for work in (self._act, self._arm)]

    def start(self) -> None:
        """Begin now."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    @property
    def is_through(self) -> bool:
        """Whether everything that was planned was done, or at least tried."""
        return not self._threads[0].is_alive() and self._went_round.is_set()

    def stop(self) -> None:
        """Break nothing more, and put right what was stopped or held."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._system.arm("")
        for timer in self._timers:
            timer.join()

    def disturbances(self) -> tuple[Disturbance, ...]:
        """Everything that was done, the faults that fired included."""
        lasts = {"hang": HANG_SECONDS}
        fired = [Disturbance("fault", name, at, at + lasts.get(action, 0)) for at, name, action in self._fired()]
        with self._lock:
            return tuple(sorted((*self._done, *fired), key=lambda one: one.started))

    def missing(self) -> set[str]:
        """What was planned and never happened."""
        happened = {f"{one.kind} {one.part}" for one in self.disturbances()}
        return self._plan.kinds() - happened

    def faults_by_point(self) -> Counter[str]:
        """How often each fault fired: point and action."""
        return Counter(f"{name} {action}" for _, name, action in self._fired())

    def _fired(self) -> list[tuple[float, str, str]]:
        return read_fault_log(self._system.fault_log)

    def _act(self) -> None:
        for action in self._plan.actions:
            if self._over.wait(max(0.0, self._began + action.at - time.monotonic())):
                return
            self._do(action)

    def _do(self, action: Action) -> None:
        system, seconds, began = self._system, action.seconds, time.time()
        match action.kind, action.part:
            case "kill", "postgresql":
                system.database.kill()
                self._over.wait(seconds)
                system.database.start()
                self._note(action, began, time.time())
            case "kill", part:
                self._when_there(action, part, signal.SIGKILL)
            case "stop", part:
                if self._when_there(action, part, signal.SIGSTOP):
                    self._later(seconds, lambda: system.signal(part, signal.SIGCONT))
            case "cut", _:
                system.proxy.cut()
                self._note(action, began, began)
            case "lose", _:
                system.proxy.lose_replies(int(seconds))
                self._note(action, began, began + 1.0)
            case "hold", _:
                system.proxy.hold()
                self._later(seconds, system.proxy.flow)
                self._note(action, began, began + seconds)

    def _when_there(self, action: Action, part: str, number: signal.Signals) -> bool:
        """Signal the part, which may be on its way back from an earlier kill: wait a moment for it."""
        deadline = time.monotonic() + 3
        while not self._system.signal(part, number):
            if time.monotonic() > deadline or self._over.wait(0.05):
                return False
        now = time.time()
        self._note(action, now, now + (action.seconds if action.kind == "stop" else 0.0))
        return True

    def _later(self, seconds: float, what: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, what)
        timer.start()
        self._timers.append(timer)

    def _note(self, action: Action, started: float, ended: float) -> None:
        with self._lock:
            self._done.append(Disturbance(action.kind, action.part, started, ended))

    def _arm(self) -> None:
        """Arm one fault after the other; those that met nobody come again first."""
        never = list(self._plan.faults)
        while not self._over.is_set():
            for fault in list(never or self._plan.faults):
                if self._arm_until_fired(*fault) and fault in never:
                    never.remove(fault)
            if not never:
                self._went_round.set()

    def _arm_until_fired(self, point: str, action: str) -> bool:
        before = len(self._fired())
        self._system.arm(f"{point}={action}:1:1")
        deadline = time.monotonic() + _ARMED_SECONDS
        while len(self._fired()) == before:
            if time.monotonic() > deadline or self._over.wait(0.05):
                return False
        self._over.wait(0.3)  # every process that comes by meanwhile has its turn
        return True


def read_fault_log(path: Path) -> list[tuple[float, str, str]]:
    """The faults that fired: when, where, how."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return [(float(at), name, action) for at, _, name, action in lines]
