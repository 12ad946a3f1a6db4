"""What Knative may do and a broker on one machine hardly does: deliver twice, and late, so that events overtake each other.

For chaos tests, off by default. BROKER_DISORDER="duplicate=0.2,delay=0.1:2.0,seed=7": of the deliveries of an event that was
just stored, a fifth is made twice (at once, or the second one later), and a tenth is held back, each for up to 2 s.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence

from common import settings
from common.errors import SettingError
from infra.local.broker.store import Delivery

_NUMBER_OF_TWIN = 500  # the twin of an event's delivery n is its delivery n + 500; dead letters begin at 1000
_SHARE = r"(0(?:\.\d+)?|1(?:\.0+)?)"
_FORM = re.compile(rf"duplicate={_SHARE},delay={_SHARE}:(\d+(?:\.\d+)?),seed=(\d+)")


class Disorder:
    """Disorders deliveries. `counts` says how many were `duplicated` and `delayed` by this process."""

    def __init__(self, duplicate: float, delay: float, seconds: float, seed: int) -> None:
        self.counts: Counter[str] = Counter(duplicated=0, delayed=0)
        self._duplicate = duplicate
        self._delay = delay
        self._seconds = seconds
        self._dice = random.Random(seed)  # noqa: S311 - not for secrets

    def of(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """The deliveries of one event, some of them twice, some of them due later than they were."""
        disordered = []
        for delivery in deliveries:
            disordered.append(delivery)
            if self._dice.random() < self._duplicate:
                self.counts["duplicated"] += 1
                twin = Delivery(
                    delivery.seq,
                    delivery.number + _NUMBER_OF_TWIN,
                    delivery.trigger,
                    delivery.function,
                    due_at=delivery.due_at + self._dice.choice((0.0, self._dice.uniform(0, self._seconds))),
                    stored=delivery.stored,
                )
                disordered.append(twin)
            if self._dice.random() < self._delay:
                self.counts["delayed"] += 1
                delivery.due_at += self._dice.uniform(0, self._seconds)
        return disordered


def from_environment() -> Disorder | None:
    """What BROKER_DISORDER asks for, None when it is not set.

    Raises SettingError when it is not of its form.
    """
    text = settings.optional("BROKER_DISORDER")
    if text is None:
        return None
    match = _FORM.fullmatch(text)
    if match is None:
        raise SettingError("BROKER_DISORDER must be duplicate=<0-1>,delay=<0-1>:<seconds>,seed=<number>")
    duplicate, delay, seconds, seed = match.groups()
    return Disorder(float(duplicate), float(delay), float(seconds), int(seed))
