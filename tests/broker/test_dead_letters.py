"""What becomes of an event that its Trigger gave up on."""

from __future__ import annotations

import base64
from pathlib import Path

from .conftest import World
from .harness import Answer, Broker, Subscriber, event_headers, free_port, reply

TOPOLOGY = """
event_prefix: t
broker: {dead_letter: sink}
functions:
  alpha: {kind: event, wakes_on: [t.alpha]}
  sink: {kind: event, wakes_on: [], delivery: {retry: 1, backoffPolicy: linear, backoffDelay: PT0.05S, timeout: PT5S}}
"""


def test_a_dead_letter_is_the_original_event_and_says_where_and_why(world: World, new_id: str) -> None:
    world.alpha.script[new_id] = [Answer(422, {"content-type": "application/problem+json"}, b'{"status":422}')]

    world.broker.post("t.alpha", new_id, b'{"content":"hello"}', sessionid="s1")

    (received,) = world.sink.wait_for(new_id)
    assert received.body == b'{"content":"hello"}'
    attributes = {name: value for name, value in received.headers.items() if name.startswith(("ce-", "content-type"))}
    assert attributes == event_headers("t.alpha", new_id, sessionid="s1") | {
        "ce-knativeerrordest": world.alpha.url,
        "ce-knativeerrorcode": "422",
        "ce-knativeerrordata": base64.b64encode(b'{"status":422}').decode(),
    }


def test_the_answer_in_a_dead_letter_is_cut(world: World, new_id: str) -> None:
    world.alpha.script[new_id] = [Answer(400, {}, b"x" * 100_000)]

    world.broker.post("t.alpha", new_id)

    (received,) = world.sink.wait_for(new_id)
    assert received.headers["ce-knativeerrordata"] == base64.b64encode(b"x" * 768).decode()
    assert len(received.headers["ce-knativeerrordata"]) == 1024


def test_each_trigger_that_gave_up_makes_its_own_dead_letter(world: World, new_id: str) -> None:
    world.alpha.script[new_id] = world.beta.script[new_id] = [Answer(400)]

    world.broker.post("t.both", new_id)

    world.sink.wait_for(new_id, times=2)
    assert {each.headers["ce-knativeerrordest"] for each in world.sink.of(new_id)} == {world.alpha.url, world.beta.url}
    for number in (1, 2):
        world.broker.wait_log("delivered", times=number, event_id=new_id, trigger="sink")
    (event,) = world.broker.trace(new_id)
    assert [(each["function"], each["state"]) for each in event["deliveries"]] == [
        ("alpha", "dead_lettered"),
        ("beta", "dead_lettered"),
        ("sink", "delivered"),
        ("sink", "delivered"),
    ]


def test_an_event_that_the_sink_answers_enters_the_broker(world: World, new_id: str) -> None:
    # GIVEN a sink that sends the event again, and a function that takes it the second time
    world.alpha.script[new_id] = [Answer(400), Answer(202)]
    world.sink.script[new_id] = [reply("t.alpha", new_id)]

    world.broker.post("t.alpha", new_id)

    world.alpha.wait_for(new_id, times=2)
    world.broker.wait_log("delivered", event_id=new_id, trigger="alpha-alpha")
    assert [event["from"] for event in world.broker.trace(new_id)] == ["ingress", "sink"]


def test_a_dead_letter_outlasts_a_sink_that_is_down_and_one_that_refuses_it(tmp_path: Path) -> None:
    # GIVEN a function that refuses an event, and a dead-letter sink that is not there
    port = free_port()
    urls = {"sink": f"http://127.0.0.1:{port}/"}
    with Subscriber(default=[Answer(400)]) as alpha, Broker(tmp_path, TOPOLOGY, urls | {"alpha": alpha.url}) as broker:
        broker.post("t.alpha", "e1")
        # WHEN the sink's delivery spec (1 retry) is used up
        broker.wait_log("retried", times=2, event_id="e1", trigger="sink")

        # AND the sink comes up, and first refuses what a Trigger would give up on
        with Subscriber(port) as sink:
            sink.script["e1"] = [Answer(400), Answer(202)]

            # THEN it gets the event until it takes it
            broker.wait_log("delivered", event_id="e1", trigger="sink")
            assert [each.headers["ce-knativeerrorcode"] for each in sink.of("e1")] == ["400", "400"]
    assert broker.lines("dead_lettered", trigger="sink") == []
