"""The turn protocol: one turn of a session at a time, in order, committed once.

Claim (1 round trip), ask, commit (1 round trip). While an earlier turn runs, wait for it a bounded while; a turn that was
finished before gives its stored answer again. What is durable about it is in the SQL functions claim_turn and finish_turn.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from leases import Leases

from common import faults, metrics
from common.database import Database
from common.errors import InProgress, Malformed, TurnRefused, Unavailable
from common.events import NormalizedRequest
from common.notifications import Notifications

log = logging.getLogger(__name__)

SLOT_SECONDS = 1.0  # how long a turn waits for one of the process's model calls to end, before the broker brings it again
_RECHECK_SECONDS = 2.0  # a notification may be missed while its connection is cut
_COMMIT_PAUSES = (0.2, 0.5, 1.0, 2.0)  # before the commit is tried again; all of it well within a lease


@dataclass(frozen=True)
class Turn:
    """A claimed turn: what to ask, of which agent (None: the default one), after which earlier exchanges."""

    request: NormalizedRequest
    session_id: str
    agent_id: str | None
    history: list[tuple[str, str]]
    owner: str
    fence: int
    attempt: int


@dataclass(frozen=True)
class Outcome:
    """What the agent said in a turn, and what it took."""

    content: str
    agent_id: str
    model_calls: int
    input_tokens: int
    output_tokens: int
    metadata: dict[str, Any] = field(default_factory=dict)


class Turns:
    """Runs turns. At most `waiters` threads of the process wait for earlier turns, each at most `wait_seconds`.

    At most `concurrency` turns are claimed at once: a turn that would be one too many holds no lease while it waits, so that
    another process can take it.
    """

    def __init__(
        self,
        database: Database,
        notifications: Notifications,
        leases: Leases,
        *,
        history: int,
        waiters: int,
        concurrency: int,
        wait_seconds: float,
    ) -> None:
        self._database = database
        self._notifications = notifications
        self._leases = leases
        self._history = history
        self._slots = threading.BoundedSemaphore(waiters)
        # Who is further back does not wait here, the broker brings it again: no session may take all places.
        self._furthest = max(1, waiters // 2)
        self._calls = threading.BoundedSemaphore(concurrency)
        self._wait_seconds = wait_seconds
        self._duplicates = metrics.DUPLICATES.labels("agent-invoke")

    def run(self, request_id: str, ask: Callable[[Turn], Outcome]) -> dict[str, Any]:
        """The request's one committed answer: the stored one, or that of `ask`, committed before this returns.

        Raises InProgress when it is not this turn's time yet or another delivery works on it, Unavailable when the agent or
        the database cannot be used now or is used as much as it may be, Malformed for a request that was never recorded.
        """
        owner = self._leases.new_owner()
        claim = self._take(request_id, owner)
        if claim["outcome"] == "finished":
            self._duplicates.inc()
            return dict(claim["answer"])
        try:
            return self._run(claim, owner, ask)
        finally:
            self._calls.release()

    def _run(self, claim: dict[str, Any], owner: str, ask: Callable[[Turn], Outcome]) -> dict[str, Any]:
        turn = Turn(
            request=NormalizedRequest.model_validate(claim["request"]),
            session_id=claim["session_id"],
            agent_id=claim["agent_id"],
            history=[(asked, answered) for asked, answered in claim["history"]],
            owner=owner,
            fence=claim["fence"],
            attempt=claim["attempt"],
        )
        if claim["taken_over"]:
            metrics.LEASES_TAKEN_OVER.inc()
            log.warning("a turn is taken over from a worker that went away", extra={"attempt": turn.attempt})
        self._leases.hold(owner, turn.session_id)
        try:
            result = self._ask(turn, ask)
            faults.point("agent.answered")
            return self._commit(turn, result)
        finally:
            self._leases.drop(owner)

    def _take(self, request_id: str, owner: str) -> dict[str, Any]:
        """The claim, once it is not busy. With one that is claimed the caller holds one of the process's model calls."""
        claim = self._claim(request_id, owner)
        if claim["outcome"] != "busy":
            return claim
        if claim["ahead"] > self._furthest or not self._slots.acquire(blocking=False):
            raise InProgress("Earlier messages of this session are being worked on.")
        try:
            return self._wait(request_id, owner, claim["session_id"])
        finally:
            self._slots.release()

    def _wait(self, request_id: str, owner: str, session_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + self._wait_seconds
        with self._notifications.waiter(session_id) as woken:
            while True:
                heard = woken.look()
                claim = self._claim(request_id, owner)
                if claim["outcome"] != "busy":
                    return claim
                woken.after(max(1, claim["ahead"]), since=heard)
                left = deadline - time.monotonic()
                if left <= 0 or self._notifications.draining:
                    raise InProgress("An earlier message of this session is being worked on.")
                woken.wait(min(left, _RECHECK_SECONDS, _until(claim["lease_until"])))

    def _claim(self, request_id: str, owner: str) -> dict[str, Any]:
        if not self._calls.acquire(timeout=SLOT_SECONDS):
            metrics.TURNS_HELD_OFF.inc()
            raise Unavailable("The agent is asked as much as it may be at once.", retry_after=1.0)
        claimed = False
        try:
            claim = self._claim_now(request_id, owner)
            claimed = claim["outcome"] == "claimed"
            return claim
        finally:
            if not claimed:
                self._calls.release()

    def _claim_now(self, request_id: str, owner: str) -> dict[str, Any]:
        claim: dict[str, Any] = self._database.step(
            "claim_turn",
            {
                "request_id": request_id,
                "owner": owner,
                "lease": self._leases.seconds,
                "history": self._history,
            },
        )
        if claim["outcome"] == "unknown":
            raise Malformed("No such request was recorded.")
        return claim

    def _ask(self, turn: Turn, ask: Callable[[Turn], Outcome]) -> dict[str, Any]:
        try:
            outcome = ask(turn)
        except TurnRefused as refusal:
            log.warning("the turn was refused", extra={"error_code": refusal.code})
            return {
                "status": "failed",
                "error_code": refusal.code,
                "error_message": refusal.sentence,
                "model_calls": 1,
                "input_tokens": 0,
                "output_tokens": 0,
                "metadata": {},
            }
        except Exception:
            self._release(turn)
            raise
        return {
            "status": "completed",
            "content": _storable(outcome.content),
            "agent_id": outcome.agent_id,
            "model_calls": outcome.model_calls,
            "input_tokens": outcome.input_tokens,
            "output_tokens": outcome.output_tokens,
            "metadata": outcome.metadata,
        }

    def _release(self, turn: Turn) -> None:
        try:
            self._database.step("release_turn", {**self._ours(turn), "model_calls": 0})
        except Unavailable:
            log.warning("the lease could not be given back; it ends by itself")

    def _commit(self, turn: Turn, result: dict[str, Any]) -> dict[str, Any]:
        committed = self._commit_patiently({**self._ours(turn), "result": json.dumps(result)})
        if committed["outcome"] == "lost":
            raise InProgress("Another worker has taken this turn over.")
        if committed["outcome"] == "committed":
            metrics.PROCESSED.labels(turn.request.integration_type, result["status"]).observe(
                committed["processing_time_ms"] / 1000
            )
        return dict(committed["answer"])

    def _commit_patiently(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The answer is here and was paid for: a short outage of the database must not cost a second model call."""
        for pause in _COMMIT_PAUSES:
            try:
                return dict(self._database.step("finish_turn", parameters))
            except Unavailable:
                time.sleep(pause)
        return dict(self._database.step("finish_turn", parameters))

    def _ours(self, turn: Turn) -> dict[str, Any]:
        return {"request_id": turn.request.request_id, "owner": turn.owner, "fence": turn.fence}


def _until(lease_until: str | None) -> float:
    """Seconds until a lease that nobody renews is free, by this machine's clock; at least a moment, at most a lot."""
    if lease_until is None:
        return 60.0
    return max(0.05, (datetime.fromisoformat(lease_until) - datetime.now(UTC)).total_seconds() + 0.02)


def _storable(text: str) -> str:
    """The text without what PostgreSQL cannot store: NUL and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
