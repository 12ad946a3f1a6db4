"""What is done to the system when: a pure function of the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

INGEST = ("ingest-slack", "ingest-web", "ingest-cli", "ingest-tool")
REPLICA = "agent-invoke-2"
KILLED = (
    "session-upsert", "session-upsert", "agent-invoke", "agent-invoke", REPLICA, "response-dispatch", "response-dispatch",
    "dead-letter", "request-status", *INGEST,
)  # fmt: skip
STOPPED = ("session-upsert", "agent-invoke", REPLICA, "response-dispatch", "broker", "llama-stack", "dead-letter", *INGEST)

# Every place where a step can be cut in two, with the ways of cutting it: those that matter most come first.
POINTS = (
    ("agent.answered", "kill"),
    ("step.finish_turn.after", "kill"),
    ("step.record_request.after", "kill"),
    ("deliver.after", "kill"),
    ("publish.after", "kill"),
    ("step.claim_turn.after", "raise"),
    ("step.finish_turn.before", "raise"),
    ("reply", "raise"),
    ("agent.answered", "hang"),
    ("step.record_request.before", "raise"),
    ("step.claim_turn.before", "kill"),
    ("step.begin_delivery.before", "raise"),
    ("step.begin_delivery.after", "kill"),
    ("deliver.before", "raise"),
    ("step.finish_delivery.before", "raise"),
    ("step.finish_delivery.after", "kill"),
    ("publish.before", "raise"),
    ("placeholder.after", "kill"),
)
HANG_SECONDS = 4.0


@dataclass(frozen=True)
class Action:
    """One thing to do `at` so many seconds after the start: kill, stop, cut, lose (replies) or hold, for `seconds`."""

    at: float
    kind: str
    part: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """`actions` in their order, and the faults (point, action) to arm one after the other."""

    actions: tuple[Action, ...]
    faults: tuple[tuple[str, str], ...]

    def kinds(self) -> set[str]:
        """What must have happened for the run to have tested anything: `kill broker`, `cut postgresql`, `fault reply`, …"""
        return {f"{one.kind} {one.part}" for one in self.actions} | {f"fault {point}" for point, _ in self.faults}


def plan(seed: int, duration: float, kill_every: float, faults: int = len(POINTS)) -> Plan:
    """A plan for `duration` seconds: a function is killed every `kill_every` seconds, PostgreSQL every 5 to 40.

    Other things have a pace of their own; each of them happens at least once, however short the run is. Of the fault points
    the first `faults` are armed, one after the other.
    """
    dice = random.Random(f"chaos {seed}")
    actions = [Action(at, "kill", name) for at, name in _spread(dice, duration, kill_every, KILLED)]
    actions += [Action(at, "kill", "broker") for at, _ in _spread(dice, duration, 9)]
    actions += [Action(at, "kill", "llama-stack") for at, _ in _spread(dice, duration, 45)]
    actions += [Action(at, "kill", "demo-model") for at, _ in _spread(dice, duration, 30)]
    at = dice.uniform(1, min(5.0, duration / 3))
    while at < duration:
        actions.append(Action(at, "kill", "postgresql", dice.uniform(0.2, 2.5)))
        at += dice.uniform(5, 40)
    actions += [Action(at, "stop", name, dice.uniform(0.3, 5)) for at, name in _spread(dice, duration, 6, STOPPED)]
    actions += [Action(at, "cut", "postgresql") for at, _ in _spread(dice, duration, 7)]
    actions += [Action(at, "lose", "postgresql", dice.randint(1, 4)) for at, _ in _spread(dice, duration, 3)]
    actions += [Action(at, "hold", "postgresql", dice.uniform(0.2, 1.5)) for at, _ in _spread(dice, duration, 11)]
    armed = dice.sample(POINTS[:faults], min(faults, len(POINTS)))
    return Plan(tuple(sorted(actions, key=lambda one: one.at)), tuple(armed))


def _spread(dice: random.Random, duration: float, every: float, names: tuple[str, ...] = ("",)) -> list[tuple[float, str]]:
    """Times with `every` seconds between two on average, each with a name; at random, but not all in one place."""
    count = max(1, round(duration / every))
    length = duration / count
    order: list[str] = []
    while len(order) < count:
        order += dice.sample(names, len(names))
    return [((number + dice.random()) * length, order[number]) for number in range(count)]
