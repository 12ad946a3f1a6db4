"""What the broker acknowledged outlives its process, however that ends."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from .harness import DEADLINE, ROOT, Answer, Broker, Received, Subscriber, event_headers, reply, subscribers

TOPOLOGY = """
event_prefix: t
broker: {dead_letter: sink}
functions:
  alpha: {kind: event, wakes_on: [t.alpha], delivery:
    {retry: 3, backoffPolicy: exponential, backoffDelay: PT0.3S, timeout: PT30S}}
  beta: {kind: event, wakes_on: [t.beta], delivery:
    {retry: 3, backoffPolicy: exponential, backoffDelay: PT0.3S, timeout: PT30S}}
  sink: {kind: event, wakes_on: []}
"""
WITHOUT_BETA = TOPOLOGY.replace("wakes_on: [t.beta]", "wakes_on: []")


@dataclass(frozen=True)
class Setting:
    """A directory for the store, and subscribers that outlive the broker."""

    directory: Path
    alpha: Subscriber
    beta: Subscriber
    sink: Subscriber

    def broker(self, *options: str, topology: str = TOPOLOGY, file_size: int | None = None) -> Broker:
        urls = {"alpha": self.alpha.url, "beta": self.beta.url, "sink": self.sink.url}
        limit = None if file_size is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, -1))
        return Broker(self.directory, topology, urls, *options, before_exec=limit)


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    with subscribers("alpha", "beta", "sink") as running:
        yield Setting(tmp_path, **running)


def post_until_refused(broker: Broker, ids: Iterator[str], accepted: list[str]) -> None:
    for event_id in ids:
        try:
            broker.post("t.alpha", event_id)
        except urllib3.exceptions.HTTPError:
            return
        accepted.append(event_id)


def test_kill_9_in_the_middle_of_many_events_loses_none(setting: Setting) -> None:
    # GIVEN a function that answers each event with a reply event, and clients that post without pause
    def next_event(received: Received) -> Answer:
        return reply("t.beta", f"{received.id}.next")

    accepted: list[str] = []
    with Subscriber(default=next_event) as alpha:
        setting = Setting(setting.directory, alpha, setting.beta, setting.sink)
        with setting.broker() as broker:
            clients = [
                threading.Thread(target=post_until_refused, args=(broker, (f"{client}-{n}" for n in range(5000)), accepted))
                for client in range(8)
            ]
            for client in clients:
                client.start()
            # WHEN the broker is killed amid its work, twice
            setting.beta.wait_until(lambda: len(setting.beta.received) >= 300, "300 events through the chain")
            setting.beta.close_gate()
            setting.beta.wait_until(lambda: setting.beta.concurrent >= 20, "20 deliveries in flight")
            broker.kill()
            for client in clients:
                client.join(DEADLINE)
        with setting.broker() as broker:
            assert broker.wait_log("listening")["waiting"] >= 20
            broker.kill()
        setting.beta.open_gate()
        assert len(accepted) > 300

        # THEN after a restart every acknowledged event has gone through the whole chain
        with setting.broker():
            expected = {f"{event_id}.next" for event_id in accepted}
            setting.beta.wait_until(
                lambda: expected <= {each.id for each in list(setting.beta.received)}, "all acknowledged events"
            )
    assert setting.sink.received == []


def test_a_restart_keeps_the_count_of_tries_and_the_time_of_the_next(setting: Setting) -> None:
    # GIVEN an event that failed twice (waits 0.3 s and 0.6 s) when the broker is killed
    setting.alpha.script["e1"] = [Answer(503)]
    with setting.broker() as broker:
        broker.post("t.alpha", "e1")
        broker.wait_log("retried", times=2, event_id="e1")
        broker.kill()

    # WHEN it starts again
    with setting.broker() as broker:
        # THEN the third try keeps its distance, and the fourth is the last
        broker.wait_log("dead_lettered", event_id="e1", attempt=4)
        setting.sink.wait_for("e1")
    first, second, third, fourth = (each.at for each in setting.alpha.of("e1"))
    assert second - first > 0.295
    assert third - second > 0.595
    assert fourth - third > 1.195


def test_a_dead_letter_outlives_the_broker(setting: Setting) -> None:
    setting.alpha.script["e1"] = [Answer(422)]
    setting.sink.script["e1"] = [Answer(503), Answer(202)]
    with setting.broker() as broker:
        broker.post("t.alpha", "e1")
        broker.wait_log("retried", event_id="e1", trigger="sink")
        broker.kill()

    with setting.broker() as broker:
        broker.wait_log("delivered", event_id="e1", trigger="sink")

    assert [each.headers["ce-knativeerrorcode"] for each in setting.sink.of("e1")] == ["422", "422"]


def test_sigterm_lets_a_delivery_in_flight_finish(setting: Setting) -> None:
    # GIVEN a delivery in flight, and a producer that keeps its connection open
    setting.alpha.close_gate()
    setting.alpha.script["e1"] = [reply("t.beta", "e1.next")]
    with setting.broker() as broker:
        broker.post("t.alpha", "e1")
        setting.alpha.wait_for("e1")

        # WHEN the broker is told to stop
        broker.process.terminate()
        broker.wait_log("stopping")

        # THEN it takes no new event
        late = broker.request("POST", "/", event_headers("t.alpha", "late"), b"{}")
        assert (late.status, late.headers["retry-after"]) == (503, "1")

        # AND it waits for the answer, and ends in order
        setting.alpha.open_gate()
        assert broker.process.wait(DEADLINE) == 0
        broker.wait_log("stopped")

    # AND the next broker delivers the reply, and not the first event again
    with setting.broker() as broker:
        assert broker.wait_log("listening")["waiting"] == 1
        broker.wait_log("delivered", event_id="e1.next")
    assert len(setting.alpha.received) == 1


def test_sigterm_does_not_wait_for_ever_and_keeps_what_is_not_finished(setting: Setting) -> None:
    setting.alpha.close_gate()
    with setting.broker("--drain", "0.2") as broker:
        broker.post("t.alpha", "e1")
        setting.alpha.wait_for("e1")
        assert broker.terminate() == 0

    setting.alpha.open_gate()
    with setting.broker() as broker:
        broker.wait_log("delivered", event_id="e1", attempt=1)
    assert len(setting.alpha.of("e1")) == 2


def test_a_delivery_whose_trigger_is_gone_becomes_a_dead_letter(setting: Setting) -> None:
    setting.beta.script["e1"] = [Answer(503)]
    with setting.broker() as broker:
        broker.post("t.beta", "e1")
        broker.wait_log("retried", event_id="e1")
        broker.kill()

    with setting.broker(topology=WITHOUT_BETA):
        (received,) = setting.sink.wait_for("e1")

    assert received.headers["ce-knativeerrorcode"] == "404"


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux to stand in for a full disk")
def test_a_full_disk_refuses_events_and_loses_no_outcome(setting: Setting) -> None:
    # GIVEN deliveries in flight, and a disk that fills up
    setting.alpha.close_gate()
    setting.alpha.script["e1"] = [reply("t.beta", "e1.next")]
    with setting.broker(file_size=4 * 1024 * 1024) as broker:
        broker.post("t.alpha", "e1")
        setting.alpha.wait_for("e1")
        headers = event_headers("t.nobody", "filling")
        for size in (500_000, 5_000, 50):
            refused = (broker.request("POST", "/", headers, b"x" * size) for _ in range(1000))
            response = next(each for each in refused if each.status != 202)
            assert (response.status, response.headers["retry-after"]) == (503, "1")

        # WHEN a subscriber answers while nothing can be stored
        setting.alpha.open_gate()
        broker.wait_log("outcome not stored yet")
        assert broker.request("GET", "/health").status == 200
        assert setting.beta.received == []  # nothing is delivered that a crash could take back

        # THEN the outcome is stored once there is room, without another delivery
        resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (-1, -1))
        broker.wait_log("delivered", event_id="e1.next")
        broker.kill()
    with setting.broker() as broker:
        assert broker.wait_log("listening")["waiting"] == 0
    assert len(setting.alpha.of("e1")) == 1


def test_two_brokers_do_not_share_a_store_or_a_port(setting: Setting, tmp_path: Path) -> None:
    with setting.broker() as broker:
        port = broker.url.rpartition(":")[2]
        for store, number, line in (
            ("broker.sqlite", "0", f"broker: {tmp_path}/broker.sqlite: database is locked\n"),
            ("other.sqlite", port, f"broker: port {port}: Address already in use\n"),
        ):
            command = [sys.executable, "-m", "infra.local.broker", "--port", number, "--store", str(tmp_path / store)]
            command += ["--topology", str(tmp_path / "topology.yaml")]
            for name in ("alpha", "beta", "sink"):
                command += ["--subscriber", f"{name}=http://127.0.0.1:1/"]
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
            assert (ended.returncode, ended.stderr) == (2, line)


def test_old_finished_events_are_pruned_and_unfinished_ones_are_not(setting: Setting) -> None:
    # GIVEN an event that is still to be delivered, and one that is finished
    setting.alpha.script["open"] = [Answer(503, pause=0.1), Answer(202)]
    setting.alpha.close_gate()
    with setting.broker("--keep-events", "50") as broker:
        broker.post("t.alpha", "open")
        broker.post("t.nobody", "finished")
        # WHEN many more come in than are kept
        for number in range(150):
            broker.post("t.nobody", str(number))

        # THEN the finished one is gone, and the other is there and is delivered
        assert broker.trace("finished") == broker.trace("0") == []
        assert len(broker.trace("149")) == 1
        assert len(broker.trace("open")) == 1
        setting.alpha.open_gate()
        broker.wait_log("delivered", event_id="open")

        # AND once it is finished, it goes too
        for number in range(150):
            broker.post("t.nobody", str(number))
        assert broker.trace("open") == []


def test_a_backlog_waits_in_the_store_rather_than_in_memory(setting: Setting) -> None:
    # GIVEN a subscriber that does not answer, and a backlog of large events (64 MiB)
    setting.alpha.close_gate()
    with setting.broker() as broker:
        for number in range(64):
            broker.post("t.alpha", str(number), bytes(1024 * 1024 - number))
        setting.alpha.wait_until(lambda: setting.alpha.concurrent == 50, "50 in flight")

        # WHEN it answers again THEN all of them arrive whole
        setting.alpha.open_gate()
        broker.wait_log("delivered", times=64)
    assert sorted(len(each.body) for each in setting.alpha.received) == [1024 * 1024 - n for n in reversed(range(64))]
