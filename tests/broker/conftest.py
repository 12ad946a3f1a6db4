"""One broker that the tests of answers, ingress and traces share; each test uses its own event ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .harness import Broker, Subscriber, free_port, subscribers

TOPOLOGY = """
event_prefix: t
broker: {dead_letter: sink}
functions:
  alpha: {kind: event, wakes_on: [t.alpha, t.both], delivery: &quick
    {retry: 2, backoffPolicy: linear, backoffDelay: PT0.02S, timeout: PT30S}}
  beta: {kind: event, wakes_on: [t.beta, t.both], delivery: *quick}
  hasty: {kind: event, wakes_on: [t.hasty], delivery:
    {retry: 1, backoffPolicy: linear, backoffDelay: PT0.02S, timeout: PT0.2S}}
  absent: {kind: event, wakes_on: [t.absent], delivery: *quick}
  patient: {kind: event, wakes_on: [t.patient], delivery:
    {retry: 1, backoffPolicy: exponential, backoffDelay: PT1H, timeout: PT30S}}
  sink: {kind: event, wakes_on: [], delivery: *quick}
  front: {kind: ingest, paths: [/api]}
"""


@dataclass(frozen=True)
class World:
    """A running broker and the subscribers behind it; nothing listens at `absent_url`."""

    broker: Broker
    alpha: Subscriber
    beta: Subscriber
    hasty: Subscriber
    patient: Subscriber
    sink: Subscriber
    absent_url: str


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    absent_url = f"http://127.0.0.1:{free_port()}/"
    with subscribers("alpha", "beta", "hasty", "patient", "sink") as running:
        urls = {name: subscriber.url for name, subscriber in running.items()}
        with Broker(tmp_path_factory.mktemp("broker"), TOPOLOGY, urls | {"absent": absent_url}) as broker:
            yield World(broker, **running, absent_url=absent_url)


@pytest.fixture
def new_id(request: pytest.FixtureRequest) -> str:
    """An event id that no other test uses."""
    return "".join(c for c in request.node.name if c.isalnum() or c in "-_")
