"""What is measured of a call of the model: how it ended, how long it took, when its first words came, its tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agents import Agents
from replies import ModelReply

from common import metrics
from common.errors import TurnRefused, Unavailable


def prepare(agents: Agents) -> None:
    """Have every agent's outcomes there from the start, so that the first failure is seen to be one more."""
    for agent in agents:
        for outcome in ("success", "unavailable"):
            metrics.MODEL_CALLS.labels(agent.id, outcome)


class Call:
    """A call of the model that is under way."""

    def __init__(self, agent_id: str) -> None:
        self._agent_id = agent_id
        self._started = time.monotonic()
        self._spoken = False

    def heard(self, listener: Callable[[str], None]) -> Callable[[str], None]:
        """`listener`, with the time noted at which it hears the first words."""

        def hear(text: str) -> None:
            if not self._spoken:
                self._spoken = True
                metrics.FIRST_TOKEN.labels(self._agent_id).observe(self.seconds())
            listener(text)

        return hear

    def answered(self, reply: ModelReply) -> None:
        """Count the reply's tokens."""
        metrics.TOKENS.labels(self._agent_id, "input").inc(reply.input_tokens)
        metrics.TOKENS.labels(self._agent_id, "output").inc(reply.output_tokens)

    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._started


@contextmanager
def call_of(agent_id: str) -> Iterator[Call]:
    """Within the block the model is asked as this agent; how it ended is counted by what the block raises.

    The outcome is `success`, `unavailable`, the code of a refusal, or `error` for what should not happen.
    """
    call, outcome = Call(agent_id), "error"
    try:
        yield call
        outcome = "success"
    except TurnRefused as refusal:
        outcome = refusal.code
        raise
    except Unavailable:
        outcome = "unavailable"
        raise
    finally:
        metrics.MODEL_CALLS.labels(agent_id, outcome).inc()
        metrics.MODEL_SECONDS.labels(agent_id).observe(call.seconds())
