"""The leases of a process, without a database: what is held when turns of one session overlap by a moment."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

import pytest
from leases import Leases

from common.database import Database


class Renewals:
    """A database that only notes which sessions were renewed."""

    def __init__(self) -> None:
        self.renewed: list[list[str]] = []
        self.came = threading.Event()

    def step(self, name: str, parameters: Mapping[str, Any]) -> int:
        assert name == "renew_leases"
        self.renewed.append(parameters["sessions"])
        self.came.set()
        return len(parameters["sessions"])


@pytest.fixture
def renewals() -> Renewals:
    return Renewals()


def test_the_next_turns_lease_is_kept_when_the_turn_before_it_lets_go(renewals: Renewals) -> None:
    """Regression: turn 2 was claimed between turn 1's commit and its drop, and then nobody renewed its lease."""
    leases = Leases(cast(Database, renewals), seconds=0.09)
    leases.hold("s1")  # turn 1
    leases.hold("s1")  # turn 2
    leases.drop("s1")  # turn 1 is done
    renewals.came.clear()
    assert renewals.came.wait(5)
    leases.drop("s1")
    leases.close()
    assert renewals.renewed[-1] == ["s1"]


def test_a_dropped_lease_is_renewed_no_longer(renewals: Renewals) -> None:
    leases = Leases(cast(Database, renewals), seconds=0.09)
    leases.hold("s1")
    leases.hold("s2")
    assert renewals.came.wait(5)
    leases.drop("s1")
    renewals.came.clear()
    assert renewals.came.wait(5)
    renewals.came.clear()
    assert renewals.came.wait(5)
    leases.close()
    assert renewals.renewed[-1] == ["s2"]
