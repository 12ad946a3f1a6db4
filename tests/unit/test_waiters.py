"""A waiter is set for what it waits for: one end, or so many; and always when everybody is woken."""

from __future__ import annotations

import pytest

from common.notifications import Waiter


@pytest.mark.parametrize("ends", [1, 2, 5])
def test_it_is_set_after_as_many_ends_as_it_wants(ends: int) -> None:
    waiter = Waiter()
    since = waiter.look()
    waiter.after(ends, since)
    for _ in range(ends - 1):
        waiter.hear(None)
    assert not waiter.is_set()
    waiter.hear(None)
    assert waiter.is_set()


def test_what_ends_while_it_looks_counts() -> None:
    waiter = Waiter()
    since = waiter.look()
    waiter.hear(None)
    waiter.hear(None)
    waiter.after(2, since)
    assert waiter.is_set()


def test_what_ended_before_it_looked_does_not() -> None:
    waiter = Waiter()
    waiter.hear(None)
    waiter.after(1, waiter.look())
    assert not waiter.is_set()


def test_a_row_that_was_told_stays_told() -> None:
    waiter = Waiter()
    waiter.hear("{}")
    waiter.hear(None)
    assert waiter.told == "{}"
