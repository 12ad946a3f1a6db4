"""One run: break things while people ask, let it settle, look at every request."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from urllib3.exceptions import HTTPError

from tests.chaos.clients import Clients
from tests.chaos.collect import collect, settle
from tests.chaos.disturber import Disturber
from tests.chaos.knobs import Knobs
from tests.chaos.schedule import plan
from tests.chaos.system import System
from tests.chaos.table import Outcome
from tests.parts.net import call

_LONGER = 40.0  # seconds more than planned, for faults that nobody has met yet


def run(directory: Path, knobs: Knobs) -> Outcome:
    """Run and verify. The directory holds the logs of every part afterwards."""
    began = time.monotonic()
    system = System(directory, knobs)
    try:
        return drive(system, knobs, began)
    finally:
        system.close()


def drive(system: System, knobs: Knobs, began: float) -> Outcome:
    """Run on a system that is ready."""
    chaos = plan(knobs.seed, knobs.duration, knobs.kill_every, knobs.faults)
    clients, disturber, disorder = Clients(system.platform.url, knobs), Disturber(system, chaos), Disorder(system)
    started = time.monotonic()
    clients.start()
    disturber.start()
    while time.monotonic() - started < knobs.duration + _LONGER:
        if time.monotonic() - started >= knobs.duration and disturber.is_through:
            break
        if clients.is_done and disturber.is_through:
            break
        time.sleep(0.1)
    disturber.stop()
    clients.stop()
    system.replica.quiet()
    settled_after = settle(system, knobs.settle)
    counts = disorder.stop()
    records = collect(system, clients.asked, disturber.disturbances(), knobs)
    (system.directory / "records.json").write_text(json.dumps(asdict(records), default=list), encoding="utf-8")
    missing = disturber.missing() | {f"a delivery {name}" for name in ("duplicated", "delayed") if not counts[name]}
    return Outcome(
        knobs=knobs,
        records=records,
        missing=frozenset(missing),
        not_accepted=clients.asked.not_accepted,
        posts=clients.asked.posts,
        faults=disturber.faults_by_point(),
        disorder=counts,
        settled_after=settled_after,
        took=time.monotonic() - began,
    )


class Disorder:
    """Adds up the broker's counts of what it disordered: each kill of it sets them back to nothing."""

    def __init__(self, system: System) -> None:
        self._url = f"{system.broker_url}/_broker/stats"
        self._total: Counter[str] = Counter()
        self._last: Counter[str] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> Counter[str]:
        """All of them."""
        self._over.set()
        self._thread.join()
        self._look()
        return self._total + self._last

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self._look()

    def _look(self) -> None:
        try:
            found = Counter(call("GET", self._url).json().get("disorder") or {})
        except HTTPError:
            return
        if any(found[name] < self._last[name] for name in self._last):
            self._total += self._last
        self._last = found
