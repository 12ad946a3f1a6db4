"""What waits in the database, read when the function's metrics are.

This function shows it because one pod of it always runs (`scale` in infra/topology.yaml), it has a database, and nobody
waits for it: neither a reading nor a slow scrape takes anything from a request.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from prometheus_client.core import Metric

from common import metrics
from common.database import Database
from common.errors import ServiceError

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0  # several Prometheus servers, or somebody's browser, cost one reading
LIMIT = 100_000
_PATIENCE = 1.0  # a scrape has 10 s by default
_STATUSES = ("queued", "processing")


class Waiting:
    """Shows what waits. Without a database it shows nothing of it: a queue that nobody can see is not empty."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._known: dict[str, Any] | None = None
        metrics.SWEPT_AT.set_to_current_time()
        metrics.register(self.collect)

    def collect(self) -> Iterable[Metric]:
        """The metrics that session-sweep feeds from the database, at most FRESH_SECONDS old."""
        yield from metrics.SWEPT_AT.collect()
        with self._lock:
            if time.monotonic() - self._read_at >= FRESH_SECONDS:
                self._known, self._read_at = self._read(), time.monotonic()
            if self._known is None:
                return
            self._set(self._known)
            yield from (metric for gauge in metrics.STORED for metric in gauge.collect())

    def _read(self) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = self._database.step("waiting_state", {"limit": LIMIT}, patience=_PATIENCE)
        except ServiceError:
            log.warning("what waits could not be read")
            return None
        return state

    def _set(self, state: dict[str, Any]) -> None:
        for status in _STATUSES:
            count, age = state["turns"].get(status, (0, 0))
            metrics.TURNS_UNFINISHED.labels(status).set(count)
            metrics.TURNS_OLDEST.labels(status).set(age)
        count, age = state["undelivered"]
        metrics.UNDELIVERED.set(count)
        metrics.UNDELIVERED_OLDEST.set(age)
        metrics.DEAD_LETTERS_WAITING.set(state["dead_letters"])
        metrics.WEBHOOKS_OFF.set(state["webhooks_off"])
