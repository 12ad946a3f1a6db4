"""What a run can be told."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from tests.chaos.schedule import POINTS


@dataclass(frozen=True)
class Knobs:
    """Seconds, unless the name says otherwise. `requests` bounds the requests, `rate` is how many begin in a second."""

    seed: int
    duration: float = 300.0
    requests: int = 10_000
    sessions: int = 500
    rate: float = 12.0
    clients: int = 12
    kill_every: float = 2.0
    faults: int = len(POINTS)
    lease_seconds: float = 3.0
    delivery_lease_seconds: float = 3.0
    model_ms: int = 40
    settle: float = 240.0
    duplicated: float = 0.2
    delayed: float = 0.1

    def disorder(self) -> str:
        """BROKER_DISORDER: which share of deliveries is made twice, and which is held back for up to 2 s."""
        return f"duplicate={self.duplicated},delay={self.delayed}:2.0,seed={self.seed}"


def from_environment() -> Knobs:
    """DURATION, SEED (random when it is not set), REQUESTS, SESSIONS, RATE, KILL_EVERY.

    Raises ValueError when one is no number.
    """
    default = Knobs(seed=int(os.environ.get("SEED") or secrets.randbelow(1_000_000)))
    return Knobs(
        seed=default.seed,
        duration=float(os.environ.get("DURATION") or default.duration),
        requests=int(os.environ.get("REQUESTS") or default.requests),
        sessions=int(os.environ.get("SESSIONS") or default.sessions),
        rate=float(os.environ.get("RATE") or default.rate),
        kill_every=float(os.environ.get("KILL_EVERY") or default.kill_every),
    )
