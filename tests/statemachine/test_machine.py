"""The state machine, for a bounded while; and bugs planted into the durable steps, which it finds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.parts.postgres import Postgres
from tests.statemachine.machine import Chain
from tests.statemachine.world import World

SEED = os.environ.get("SEED")
# The same examples every time, unless SEED asks for others: then it says all that is needed to see them again.
SETTINGS = settings(
    max_examples=int(os.environ.get("EXAMPLES") or 16),
    stateful_step_count=30,
    derandomize=SEED is None,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def world(postgres_server: Postgres, llama_stack: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    one = World(tmp_path_factory.mktemp("faults"), postgres_server, llama_stack)
    yield one
    one.close()


def look(world: World, how: settings) -> None:
    machine = type("ChainInWorld", (Chain,), {"world": world})
    run_state_machine_as_test(seed(int(SEED))(machine) if SEED else machine, settings=how)


@pytest.mark.timeout(300)
def test_no_order_of_events_repeats_races_and_crashes_breaks_a_promise(world: World) -> None:
    look(world, SETTINGS)


def looks_ahead(chain: Chain) -> None:
    chain.ask(0, tool=False, earlier=0)
    chain.ask(0, tool=False, earlier=0)
    for which in (0, 1):
        chain.deliver(which, at_once=1)
    chain.another_worker_takes_the_turn(1)
    chain.tables_hold()


def is_fenced(chain: Chain) -> None:
    chain.ask(0, tool=False, earlier=0)
    chain.deliver(0, at_once=1)
    chain.another_worker_takes_the_turn(0)
    chain.leases_end()
    chain.another_worker_takes_the_turn(0)
    chain.the_other_worker_wakes_up(0, fails=False)


def stays_ended(chain: Chain) -> None:
    chain.ask(0, tool=False, earlier=0)
    chain.deliver(0, at_once=1)
    chain.another_worker_takes_the_turn(0)
    chain.leases_end()
    chain.give_up(0, code="400", resends="3", place=None)
    chain.tables_hold()
    chain.the_other_worker_wakes_up(0, fails=False)
    chain.tables_hold()


def is_left_when_it_expired(chain: Chain) -> None:
    for _ in range(2):
        chain.ask(0, tool=False, earlier=0)
        chain.deliver_the_newest(at_once=1)
        chain.tables_hold()
        chain.session_expires(0, tool=False, swept=False)


def repeats_itself(chain: Chain) -> None:
    chain.ask(0, tool=False, earlier=0)
    chain.deliver(0, at_once=1)
    chain.deliver(1, at_once=1)
    chain.deliver(1, at_once=1)


# A way through the rules; the step that is spoiled, what is taken out of it, and what comes in its place.
BUGS = [
    (looks_ahead, "claim_turn", "v_ahead > 0 OR ", ""),
    (is_fenced, "finish_turn", "AND s.lease_owner = p_owner AND s.lease_fence = p_fence", ""),
    (
        stays_ended,
        "finish_turn",
        "WHERE request_id = p_request_id AND status = 'processing'",
        "WHERE request_id = p_request_id",
    ),
    (is_left_when_it_expired, "record_request", "FOUND AND v_session.expires_at > clock_timestamp()", "FOUND"),
    (repeats_itself, "answer_of", "'completed_at', r.completed_at", "'completed_at', clock_timestamp()"),
]


@pytest.mark.parametrize(("way", "function", "there", "instead"), BUGS, ids=[bug[0].__name__ for bug in BUGS])
def test_a_planted_bug_is_seen(world: World, way: Callable[[Chain], None], function: str, there: str, instead: str) -> None:
    chain = type("ChainInWorld", (Chain,), {"world": world})()
    chain.begin()
    way(chain)
    [[sound]] = world.postgres.query("SELECT pg_get_functiondef(%s::regproc)", function)
    assert sound.count(there) == 1
    world.postgres.query(sound.replace(there, instead))
    try:
        chain.begin()
        with pytest.raises(AssertionError):
            way(chain)
    finally:
        world.postgres.query(sound)
