"""One Trigger's trouble is not another's, and a retry that waits is in nobody's way."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from .harness import Answer, Broker, Received, subscribers

TOPOLOGY = """
event_prefix: t
broker: {dead_letter: sink}
functions:
  slow: {kind: event, wakes_on: [t.slow]}
  quick: {kind: event, wakes_on: [t.quick], delivery:
    {retry: 1, backoffPolicy: exponential, backoffDelay: PT1H, timeout: PT30S}}
  linear: {kind: event, wakes_on: [t.linear], delivery:
    {retry: 4, backoffPolicy: linear, backoffDelay: PT0.1S, timeout: PT30S}}
  exponential: {kind: event, wakes_on: [t.exponential], delivery:
    {retry: 3, backoffPolicy: exponential, backoffDelay: PT0.1S, timeout: PT30S}}
  sink: {kind: event, wakes_on: []}
"""


def gaps(received: list[Received]) -> list[float]:
    return [later.at - earlier.at for earlier, later in pairwise(received)]


def test_a_slow_subscriber_does_not_delay_another_and_gets_50_at_once(tmp_path: Path) -> None:
    with subscribers("slow", "quick", "linear", "exponential", "sink") as running:
        slow = running["slow"]
        with Broker(tmp_path, TOPOLOGY, {name: each.url for name, each in running.items()}) as broker:
            # GIVEN a subscriber that answers nothing, and a backlog for it
            slow.close_gate()
            for number in range(120):
                broker.post("t.slow", f"slow-{number}")
            slow.wait_until(lambda: slow.concurrent == 50, "50 in flight")

            # WHEN events for another one come in behind it
            for number in range(60):
                broker.post("t.quick", f"quick-{number}")

            # THEN those are delivered meanwhile, and the slow one has 50 of its own, no more
            broker.wait_log("delivered", times=60, trigger="quick-quick")
            assert len(slow.received) == 50
            slow.open_gate()
            broker.wait_log("delivered", times=120, trigger="slow-slow")
            assert slow.most_concurrent == 50


def test_a_retry_that_waits_takes_no_place(tmp_path: Path) -> None:
    with subscribers("slow", "quick", "linear", "exponential", "sink") as running:
        urls = {name: each.url for name, each in running.items()}
        with Broker(tmp_path, TOPOLOGY, urls, "--in-flight", "1") as broker:
            # GIVEN a Trigger with one place, and an event whose retry is an hour away
            running["quick"].script["failing"] = [Answer(503)]
            broker.post("t.quick", "failing")
            broker.wait_log("retried", event_id="failing")

            # WHEN another event comes in, THEN it is delivered
            broker.post("t.quick", "fine")
            broker.wait_log("delivered", event_id="fine")

            # AND linear and exponential backoff keep their distances: 0, 1, 2, 3 and 1, 2, 4 times the delay
            for name in ("linear", "exponential"):
                running[name].script[name] = [Answer(503)]
                broker.post(f"t.{name}", name)
            for name, least in (("linear", [0.0, 0.1, 0.2, 0.3]), ("exponential", [0.1, 0.2, 0.4])):
                running["sink"].wait_for(name)
                waited = gaps(running[name].of(name))
                assert len(waited) == len(least)
                # A timer may fire a millisecond early by another clock.
                assert all(gap > wait - 0.005 for gap, wait in zip(waited, least, strict=True)), waited
