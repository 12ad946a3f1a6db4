"""The short form of `make chaos`, and a bug planted into the same running system."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.chaos import oracles
from tests.chaos.clients import Clients
from tests.chaos.collect import collect, settle
from tests.chaos.knobs import Knobs
from tests.chaos.run import drive
from tests.chaos.system import System
from tests.chaos.table import render
from tests.platform.support import until

KNOBS = Knobs(seed=int(os.environ.get("SEED") or 1), duration=10, sessions=60, kill_every=3, faults=8)
_ITS_TIME = "IF v_ahead > 0 OR (v_session.lease_until > clock_timestamp() AND v_session.lease_owner <> p_owner) THEN"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    running = System(tmp_path_factory.mktemp("chaos"), KNOBS)
    yield running
    running.close()


@pytest.mark.timeout(240)
def test_nothing_is_lost_doubled_or_out_of_order_while_everything_is_broken(
    system: System, record_property: Callable[[str, object], None]
) -> None:
    outcome = drive(system, KNOBS, time.monotonic())
    record_property("table", render(outcome))  # tests/conftest.py prints it
    assert not {name: found for name, found in outcome.violations().items() if found}
    assert not outcome.missing, "the run is void: it tested less than was planned"


def test_a_claim_that_does_not_look_who_is_ahead_turns_the_oracles_red(system: System) -> None:
    [[sound]] = system.database.query("SELECT pg_get_functiondef('claim_turn'::regproc)")
    assert sound.count(_ITS_TIME) == 1
    knobs = Knobs(seed=KNOBS.seed + 1, requests=8, sessions=1, rate=100, clients=8)
    clients = Clients(system.platform.url, knobs)
    system.database.query(sound.replace(_ITS_TIME, "IF false THEN"))
    try:
        clients.start()
        until(lambda: clients.is_done, "everything is asked")
        settle(system, 40)
    finally:
        system.database.query(sound)
    records = collect(system, clients.asked, (), knobs)
    assert oracles.overlapping_turns(records)
