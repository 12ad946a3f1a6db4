"""The leases of a process: what is renewed when turns of one session overlap by a moment."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

import pytest
from leases import Leases

from common.database import Database


class Renewals:
    """What the thread would send to the database, and when."""

    def __init__(self) -> None:
        self.sent: list[Mapping[str, Any]] = []
        self.came = threading.Event()

    def step(self, name: str, parameters: Mapping[str, Any]) -> None:
        assert name == "renew_leases"
        self.sent.append(parameters)
        self.came.set()


@pytest.fixture
def renewals() -> Renewals:
    return Renewals()


def test_the_next_turns_lease_is_kept_when_the_turn_before_it_lets_go(renewals: Renewals) -> None:
    """Regression: turn 2 was claimed between turn 1's commit and its drop, and then nobody renewed its lease."""
    leases = Leases(cast(Database, renewals), seconds=0.09)
    first, second = leases.new_owner(), leases.new_owner()
    leases.hold(first, "s1")
    leases.hold(second, "s1")
    leases.drop(first)
    renewals.came.clear()
    assert renewals.came.wait(5)
    leases.close()
    assert (renewals.sent[-1]["sessions"], renewals.sent[-1]["owners"]) == (["s1"], [second])


def test_owners_are_never_the_same(renewals: Renewals) -> None:
    one, other = (Leases(cast(Database, renewals), seconds=1) for _ in range(2))
    assert len({one.new_owner(), one.new_owner(), other.new_owner(), other.new_owner()}) == 4
