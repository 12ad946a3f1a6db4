"""What a broker does with an answer, on the local stand-in and on Knative's own handlers: the same, but for what is listed.

Looked at from outside only: what subscribers and the dead-letter sink got. Differences: docs/conformance.md.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.broker.conftest import TOPOLOGY
from tests.broker.harness import Answer, Broker, Received, Subscriber, event_headers, free_port, reply, subscribers
from tests.knative.broker import KnativeBroker, objects_of

STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
BROKERS = ("stand-in", "knative")


@dataclass(frozen=True)
class World:
    """One broker, and who listens behind it."""

    name: str
    broker: Broker | KnativeBroker
    alpha: Subscriber
    beta: Subscriber
    hasty: Subscriber
    sink: Subscriber
    absent_url: str

    def dead_letter(self, event_id: str) -> Received:
        (received,) = self.sink.wait_for(event_id)
        return received


@pytest.fixture(scope="module", params=BROKERS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    absent = f"http://127.0.0.1:{free_port()}/"
    place = tmp_path_factory.mktemp("broker")
    with subscribers("alpha", "beta", "hasty", "patient", "sink") as running:
        urls = {name: subscriber.url for name, subscriber in running.items()} | {"absent": absent}
        parts = {name: running[name] for name in ("alpha", "beta", "hasty", "sink")}
        if request.param == "stand-in":
            with Broker(place, TOPOLOGY, urls) as stand_in:
                yield World("stand-in", stand_in, absent_url=absent, **parts)
        else:
            objects = place / "objects.yaml"
            objects.write_text(objects_of(TOPOLOGY))
            with KnativeBroker(objects, "default", urls) as knative:
                yield World("knative", knative, absent_url=absent, **parts)


@pytest.fixture
def new_id(request: pytest.FixtureRequest) -> str:
    return "".join(c for c in request.node.name if c.isalnum() or c in "-_")


def test_an_event_reaches_its_subscriber_with_its_attributes_and_data(world: World, new_id: str) -> None:
    world.broker.post("t.alpha", new_id, b'{"n":1}', partitionkey="k", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")

    (received,) = world.alpha.wait_for(new_id)
    assert received.body == b'{"n":1}'
    assert received.headers["content-type"] == "application/json"
    assert received.headers["ce-partitionkey"] == "k"
    assert received.headers["ce-traceparent"][3:35] == "a" * 32


def test_an_event_goes_to_every_trigger_that_wants_it_and_to_no_other(world: World, new_id: str) -> None:
    world.broker.post("t.both", new_id)

    world.alpha.wait_for(new_id)
    world.beta.wait_for(new_id)
    assert not world.hasty.of(new_id)


def test_what_is_no_event_is_refused(world: World, new_id: str) -> None:
    headers = event_headers("t.alpha", new_id)
    del headers["ce-id"]
    response = (
        world.broker.request("POST", headers, b"{}")
        if isinstance(world.broker, KnativeBroker)
        else world.broker.request("POST", "/", headers, b"{}")
    )
    assert response.status == 400


@pytest.mark.parametrize("status", [200, 202, 204])
def test_an_empty_2xx_delivers(world: World, new_id: str, status: int) -> None:
    world.alpha.script[new_id] = [Answer(status), Answer(500)]
    world.broker.post("t.alpha", new_id)
    world.broker.post("t.alpha", f"{new_id}.after")

    world.alpha.wait_for(f"{new_id}.after")
    assert len(world.alpha.of(new_id)) == 1
    assert not world.sink.of(new_id)


def test_a_cloudevent_in_the_answer_enters_as_a_new_event(world: World, new_id: str) -> None:
    world.alpha.script[new_id] = [reply("t.beta", f"{new_id}.next", b'{"n":2}', sessionid="s1")]
    world.broker.post("t.alpha", new_id)

    (received,) = world.beta.wait_for(f"{new_id}.next")
    assert (received.body, received.headers["ce-sessionid"]) == (b'{"n":2}', "s1")
    assert len(world.alpha.of(new_id)) == 1


@pytest.mark.parametrize("named", [{"datacontenttype": "application/json"}, {}], ids=["named", "not-named"])
def test_a_structured_cloudevent_in_the_answer_enters_too(world: World, new_id: str, named: dict[str, str]) -> None:
    event = {"specversion": "1.0", "id": f"{new_id}.next", "source": "/a", "type": "t.beta", "data": {"n": 2}, **named}
    world.alpha.script[new_id] = [Answer(200, STRUCTURED, json.dumps(event).encode())]
    world.broker.post("t.alpha", new_id)

    (received,) = world.beta.wait_for(f"{new_id}.next")
    assert json.loads(received.body) == {"n": 2}
    # JSON is what a structured event's data are unless it says otherwise; through Knative's filter that is lost.
    lost = world.name == "knative" and not named
    assert received.headers["content-type"] == ("text/plain; charset=utf-8" if lost else "application/json")


@pytest.mark.parametrize("kind", ["text/plain", "application/json"])
def test_a_2xx_with_anything_else_counts_as_502_and_is_retried(world: World, new_id: str, kind: str) -> None:
    world.alpha.script[new_id] = [Answer(200, {"content-type": kind}, b'{"status":"ok"}')]
    world.broker.post("t.alpha", new_id)

    # Knative's filter says nothing of the answer then, and its dispatcher leaves the dead letter without error attributes.
    code = {"stand-in": "502", "knative": None}[world.name]
    assert world.dead_letter(new_id).headers.get("ce-knativeerrorcode") == code
    assert len(world.alpha.of(new_id)) == 3


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 504])
def test_what_may_pass_is_retried_until_it_does(world: World, new_id: str, status: int) -> None:
    world.alpha.script[new_id] = [Answer(status), Answer(status), reply("t.beta", f"{new_id}.next")]
    world.broker.post("t.alpha", new_id)

    world.beta.wait_for(f"{new_id}.next")
    assert len(world.alpha.of(new_id)) == 3
    assert not world.sink.of(new_id)


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503])
def test_what_does_not_pass_is_dead_lettered_after_its_retries(world: World, new_id: str, status: int) -> None:
    world.alpha.script[new_id] = [Answer(status, {}, b"no")]
    world.broker.post("t.alpha", new_id, b'{"n":1}', partitionkey="k")

    dead = world.dead_letter(new_id)
    assert dead.headers["ce-knativeerrorcode"] == str(status)
    assert base64.b64decode(dead.headers["ce-knativeerrordata"]) == b"no"
    assert dead.headers["ce-knativeerrordest"].rstrip("/") == world.alpha.url.rstrip("/")
    assert (dead.body, dead.headers["ce-partitionkey"], dead.headers["ce-type"]) == (b'{"n":1}', "k", "t.alpha")
    assert len(world.alpha.of(new_id)) == 3


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 405, 413, 422])
def test_a_refusal_is_dead_lettered_at_once(world: World, new_id: str, status: int) -> None:
    world.alpha.script[new_id] = [Answer(status, {}, b"no")]
    world.broker.post("t.alpha", new_id)

    assert world.dead_letter(new_id).headers["ce-knativeerrorcode"] == str(status)
    assert len(world.alpha.of(new_id)) == 1


def test_no_connection_is_retried_then_dead_lettered(world: World, new_id: str) -> None:
    world.broker.post("t.absent", new_id)

    assert world.dead_letter(new_id).headers["ce-knativeerrorcode"] == "500"


def test_a_connection_that_breaks_off_is_retried(world: World, new_id: str) -> None:
    world.alpha.script[new_id] = [Answer(drop=True), reply("t.beta", f"{new_id}.next")]
    world.broker.post("t.alpha", new_id)

    world.beta.wait_for(f"{new_id}.next")


def test_what_the_dead_letter_sink_answers_enters_the_broker_or_not(world: World, new_id: str) -> None:
    # As Kafka's broker the stand-in takes it, Knative's MT broker does not: so our sink never answers with an event.
    world.alpha.script[new_id] = [Answer(400)]
    world.sink.script[new_id] = [reply("t.beta", f"{new_id}.told")]
    world.broker.post("t.alpha", new_id)

    world.sink.wait_for(new_id)
    world.broker.post("t.beta", f"{new_id}.after")
    world.beta.wait_for(f"{new_id}.after")
    if world.name == "stand-in":
        world.beta.wait_for(f"{new_id}.told")
    else:
        assert not world.beta.of(f"{new_id}.told")


def test_a_loop_ends_at_255_hops(world: World, new_id: str) -> None:
    def following(received: Received) -> Answer:
        hop = int(received.headers.get("ce-hop", "1")) + 1
        world.beta.script[f"{new_id}.{hop}"] = following
        return reply("t.beta", f"{new_id}.{hop}", hop=str(hop))

    world.beta.script[new_id] = following
    world.broker.post("t.beta", new_id)

    last = {"stand-in": 255, "knative": 255}[world.name]
    world.beta.wait_for(f"{new_id}.{last}")
    world.sink.wait_for(f"{new_id}.{last}")
    assert not world.beta.of(f"{new_id}.{last + 1}")
