"""Deliveries made twice and held back, for chaos tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.broker.disorder import Disorder, from_environment
from infra.local.broker.store import Delivery
from tests.broker.harness import ROOT, Broker, Subscriber, subscribers

TABLE = """
event_prefix: t
broker: {dead_letter: sink}
functions:
  alpha: {kind: event, wakes_on: [t.alpha], delivery: {retry: 1, backoffPolicy: linear, backoffDelay: PT0.1S}}
  sink: {kind: event, wakes_on: []}
"""


@pytest.fixture
def disordered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Broker, Subscriber]]:
    monkeypatch.setenv("BROKER_DISORDER", "duplicate=1,delay=0:0,seed=1")
    with subscribers("alpha", "sink") as running:
        urls = {name: subscriber.url for name, subscriber in running.items()}
        with Broker(tmp_path, TABLE, urls) as broker:
            yield broker, running["alpha"]


def deliveries(count: int) -> list[Delivery]:
    return [Delivery(seq, 0, "alpha-alpha", "alpha", due_at=100.0) for seq in range(count)]


def test_an_event_comes_twice_and_that_is_counted(disordered: tuple[Broker, Subscriber]) -> None:
    broker, alpha = disordered
    broker.post("t.alpha", "twice")
    assert [received.id for received in alpha.wait_for("twice", 2)] == ["twice", "twice"]
    assert broker.stats()["disorder"] == {"duplicated": 1, "delayed": 0}


def test_a_share_is_doubled_and_a_share_is_late_by_up_to_so_much() -> None:
    disorder = Disorder(0.2, 0.1, 2.0, seed=7)
    made = [one for delivery in deliveries(2000) for one in disorder.of([delivery])]
    assert disorder.counts["duplicated"] == len(made) - 2000
    assert 300 < disorder.counts["duplicated"] < 500
    assert 120 < disorder.counts["delayed"] < 280
    assert all(100.0 <= one.due_at <= 102.0 for one in made)
    assert len({(one.seq, one.number) for one in made}) == len(made)


def test_the_same_seed_disorders_alike() -> None:
    def due(seed: int) -> list[tuple[int, float]]:
        return [(one.number, one.due_at) for one in Disorder(0.2, 0.1, 2.0, seed=seed).of(deliveries(200))]

    assert due(7) == due(7)
    assert due(7) != due(8)


def test_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BROKER_DISORDER", raising=False)
    assert from_environment() is None


def test_a_malformed_setting_keeps_the_broker_from_starting_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "topology.yaml").write_text(TABLE)
    options = ["--port", "0", "--store", str(tmp_path / "s"), "--topology", str(tmp_path / "topology.yaml")]
    ended = subprocess.run(
        [sys.executable, "-m", "infra.local.broker", *options],
        cwd=ROOT,
        env={"BROKER_DISORDER": "duplicate=2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("broker: BROKER_DISORDER must be ")
