"""One sweep: short statements, a bounded number of each, none of which the hot path waits for.

First what people wait for (requests and answers that stopped moving), then the clearing up. What is durable about it is in
the SQL functions of 0003_operations.sql: rows that somebody else has locked are skipped, so two sweeps share the work.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common import events, metrics
from common.broker import Broker
from common.database import Database

log = logging.getLogger(__name__)

CODE = "not_processed"
SENTENCE = "Your request could not be worked on, although it was tried several times. Please ask again later."
ACTIONS = (
    "requests_resumed",
    "requests_failed",
    "answers_redelivered",
    "answers_given_up",
    "sessions_expired",
    "requests_deleted",
    "sessions_deleted",
    "dead_letters_deleted",
    "chunks_deleted",
)
UNDELIVERED = "Given up: it was sent again several times, and did not arrive."


@dataclass(frozen=True)
class Limits:
    """What is old, what stands still, and how much one sweep does at most: `batches` of `batch` rows of each kind."""

    retention_days: int
    stalled_seconds: float
    max_resumes: int
    batch: int
    batches: int


class Sweep:
    """Sweeps the tables of one database and sends on through one broker."""

    def __init__(self, database: Database, broker: Broker, limits: Limits) -> None:
        self._database = database
        self._broker = broker
        self._limits = limits
        for action in ACTIONS:  # there from the start, so that the first one is seen to be one more
            metrics.SWEPT.labels(action)
        self._retention = {"limit": limits.batch, "retention": limits.retention_days}
        self._stalled = {"stalled": limits.stalled_seconds, "max": limits.max_resumes, "limit": limits.batch}

    def run(self) -> Counter[str]:
        """Sweep once; how many of each action were done.

        Raises Unavailable when the database or the broker does not answer: what was done by then stays done.
        """
        done: Counter[str] = Counter()
        stages = (
            self._stalled_requests,
            self._undelivered_answers,
            self._active_sessions,
            self._past_sessions,
            self._rows("sweep_sessionless", "requests_deleted"),
            self._rows("sweep_dead_letters", "dead_letters_deleted"),
            self._rows("sweep_chunks", "chunks_deleted"),
        )
        try:
            for stage in stages:
                self._in_batches(stage, done)
            metrics.SWEPT_AT.set_to_current_time()
        finally:
            for action, count in done.items():
                metrics.SWEPT.labels(action).inc(count)
            log.info("swept", extra={name: count for name, count in done.items() if count})
        return done

    def _in_batches(self, stage: Callable[[Counter[str]], int], done: Counter[str]) -> None:
        """Run a stage until it finds less than a batch, at most as often as is allowed. The next tick goes on from there."""
        for _ in range(self._limits.batches):
            if stage(done) < self._limits.batch:
                return

    def _stalled_requests(self, done: Counter[str]) -> int:
        """Send the session events of a batch of requests again; fail those for which that was done often enough.

        Sent first and counted then: a crash between the two sends once more, which has no effect, and never too little.
        """
        found = self._database.step("stalled_requests", self._stalled)
        resumed = [one for one in found if not one["spent"]]
        self._publish_then_note(
            "note_resumed",
            [(one["request"]["request_id"], events.session_ready(one)) for one in resumed],
            done,
            "requests_resumed",
        )
        for one in found:
            if one["spent"]:
                self._fail(one["request"]["request_id"], done)
        return len(found)

    def _fail(self, request_id: str, done: Counter[str]) -> None:
        parameters = {"request_id": request_id, "request": None, "event_id": "", "code": CODE, "message": SENTENCE}
        ended = self._database.step("fail_request", parameters)
        if ended["outcome"] != "finished":
            return  # a worker has taken it up after all
        done["requests_failed"] += 1
        log.warning("a request that stopped moving was ended", extra={"request_id": request_id})
        # Should this not be published: a browser was woken by the commit, and other answers are found as undelivered.
        self._broker.publish(events.response_ready("session-sweep", ended["answer"]))

    def _undelivered_answers(self, done: Counter[str]) -> int:
        """Send the answers' events of a batch again; give up those for which that was done often enough."""
        found = self._database.step("undelivered_answers", self._stalled)
        again = [one["answer"] for one in found if not one["spent"]]
        self._publish_then_note(
            "note_redelivered",
            [(one["request_id"], events.response_ready("session-sweep", one)) for one in again],
            done,
            "answers_redelivered",
        )
        spent = [one["answer"]["request_id"] for one in found if one["spent"]]
        if spent:
            parameters = {"request_ids": spent, "error": UNDELIVERED}
            done["answers_given_up"] += self._database.step("note_undeliverable", parameters)
        return len(found)

    def _publish_then_note(self, statement: str, sent: Sequence[tuple[str, Any]], done: Counter[str], action: str) -> None:
        published: list[str] = []
        try:
            for request_id, event in sent:
                self._broker.publish(event)
                published.append(request_id)
        finally:
            if published:
                parameters = {"request_ids": published, "stalled": self._limits.stalled_seconds}
                done[action] += self._database.step(statement, parameters)

    def _active_sessions(self, done: Counter[str]) -> int:
        """A batch is full when either limit was reached: the sessions looked at, or the requests deleted in them."""
        swept = self._database.step("sweep_active", self._retention)
        done["sessions_expired"] += swept["expired"]
        done["requests_deleted"] += swept["requests"]
        return max(int(swept["looked"]), int(swept["requests"]))

    def _past_sessions(self, done: Counter[str]) -> int:
        swept = self._database.step("sweep_past", self._retention)
        done["requests_deleted"] += swept["requests"]
        done["sessions_deleted"] += swept["sessions"]
        return max(int(swept["looked"]), int(swept["requests"]))

    def _rows(self, statement: str, action: str) -> Callable[[Counter[str]], int]:
        def stage(done: Counter[str]) -> int:
            count = int(self._database.step(statement, self._retention))
            done[action] += count
            return count

        return stage
