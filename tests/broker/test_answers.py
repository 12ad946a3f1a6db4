"""What an answer of a subscriber does to its event: every row of the broker's table."""

from __future__ import annotations

import base64
import json

import pytest

from .conftest import World
from .harness import Answer, Received, event_headers, reply

STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
NO_ID = {"ce-specversion": "1.0", "ce-source": "/alpha", "ce-type": "t.beta"}


def dead_letter(world: World, event_id: str) -> Received:
    (received,) = world.sink.wait_for(event_id)
    return received


@pytest.mark.parametrize("status", [200, 202, 204])
def test_an_empty_2xx_delivers(world: World, new_id: str, status: int) -> None:
    world.alpha.script[new_id] = [Answer(status)]

    world.broker.post("t.alpha", new_id)

    world.broker.wait_log("delivered", event_id=new_id, status=status, attempt=1)
    assert len(world.alpha.of(new_id)) == 1


def test_a_cloudevent_in_the_answer_enters_as_a_new_event(world: World, new_id: str) -> None:
    world.alpha.script[new_id] = [reply("t.beta", f"{new_id}.next", b'{"n":2}', requestid=new_id, sessionid="s1")]

    world.broker.post("t.alpha", new_id)

    (received,) = world.beta.wait_for(f"{new_id}.next")
    assert received.body == b'{"n":2}'
    assert received.headers["ce-sessionid"] == "s1"
    world.broker.wait_log("delivered", event_id=f"{new_id}.next")
    assert [(event["id"], event["from"]) for event in world.broker.trace(new_id)] == [
        (new_id, "ingress"),
        (f"{new_id}.next", "alpha"),
    ]
    assert len(world.alpha.of(new_id)) == 1


def test_a_structured_cloudevent_in_the_answer_enters_too(world: World, new_id: str) -> None:
    event = {"specversion": "1.0", "id": f"{new_id}.next", "source": "/a", "type": "t.beta", "data": {"n": 2}}
    world.alpha.script[new_id] = [Answer(200, STRUCTURED, json.dumps(event).encode())]

    world.broker.post("t.alpha", new_id)

    (received,) = world.beta.wait_for(f"{new_id}.next")
    assert json.loads(received.body) == {"n": 2}
    assert received.headers["content-type"] == "application/json"


def test_a_reply_may_have_no_data(world: World, new_id: str) -> None:
    headers = event_headers("t.beta", f"{new_id}.next")
    del headers["content-type"]
    world.alpha.script[new_id] = [Answer(200, headers)]

    world.broker.post("t.alpha", new_id)

    (received,) = world.beta.wait_for(f"{new_id}.next")
    assert received.body == b""


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, {"content-type": "text/plain"}, b"OK"),
        Answer(200, {"content-type": "application/json"}, b'{"status":"ok"}'),
        Answer(202, NO_ID, b"{}"),
        Answer(200, STRUCTURED, b"not json"),
        Answer(200, STRUCTURED, b""),
    ],
    ids=["text", "json", "event-without-id", "broken-structured", "empty-structured"],
)
def test_a_2xx_with_anything_else_counts_as_502(world: World, new_id: str, answer: Answer) -> None:
    world.alpha.script[new_id] = [answer]

    world.broker.post("t.alpha", new_id)

    headers = dead_letter(world, new_id).headers
    assert headers["ce-knativeerrorcode"] == "502"
    assert base64.b64decode(headers.get("ce-knativeerrordata", "")) == answer.body
    assert len(world.alpha.of(new_id)) == 3


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 504])
def test_what_may_pass_is_retried_until_it_does(world: World, new_id: str, status: int) -> None:
    world.alpha.script[new_id] = [Answer(status), Answer(status), Answer(202)]

    world.broker.post("t.alpha", new_id)

    world.broker.wait_log("delivered", event_id=new_id, attempt=3)
    assert [line["status"] for line in world.broker.lines("retried", event_id=new_id)] == [status, status]
    assert world.sink.of(new_id) == []


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503])
def test_what_does_not_pass_is_dead_lettered_after_its_retries(world: World, new_id: str, status: int) -> None:
    world.alpha.script[new_id] = [Answer(status, {}, b"no")]

    world.broker.post("t.alpha", new_id)

    assert dead_letter(world, new_id).headers["ce-knativeerrorcode"] == str(status)
    assert len(world.alpha.of(new_id)) == 3  # the first try and two retries


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 405, 413, 422])
def test_a_refusal_is_dead_lettered_at_once(world: World, new_id: str, status: int) -> None:
    world.alpha.script[new_id] = [Answer(status, {"location": world.beta.url}, b"no")]

    world.broker.post("t.alpha", new_id)

    assert dead_letter(world, new_id).headers["ce-knativeerrorcode"] == str(status)
    assert len(world.alpha.of(new_id)) == 1
    assert world.beta.of(new_id) == []  # a redirect is not followed


def test_no_connection_is_retried_then_dead_lettered(world: World, new_id: str) -> None:
    world.broker.post("t.absent", new_id)

    headers = dead_letter(world, new_id).headers
    assert headers["ce-knativeerrordest"] == world.absent_url
    assert headers["ce-knativeerrorcode"] == "500"
    assert len(world.broker.lines("retried", event_id=new_id, status=None)) == 2


def test_a_connection_that_breaks_off_is_retried(world: World, new_id: str) -> None:
    world.alpha.script[new_id] = [Answer(drop=True), Answer(202)]

    world.broker.post("t.alpha", new_id)

    world.broker.wait_log("delivered", event_id=new_id, attempt=2)


def test_no_answer_in_time_is_retried_then_dead_lettered(world: World, new_id: str) -> None:
    world.hasty.script[new_id] = [Answer(202, pause=0.5)]

    world.broker.post("t.hasty", new_id)

    headers = dead_letter(world, new_id).headers
    assert headers["ce-knativeerrorcode"] == "500"
    assert base64.b64decode(headers["ce-knativeerrordata"]) == b"dispatch error: no answer within 0.2 s"
    assert len(world.broker.lines("retried", event_id=new_id, status=None)) == 1


def test_a_reply_that_is_too_large_to_store_dead_letters_its_event_at_once(world: World, new_id: str) -> None:
    world.alpha.script[new_id] = [reply("t.beta", f"{new_id}.next", b"x" * (1024 * 1024 + 1))]

    world.broker.post("t.alpha", new_id)

    assert dead_letter(world, new_id).headers["ce-knativeerrorcode"] == "413"
    assert len(world.alpha.of(new_id)) == 1
    assert world.beta.of(f"{new_id}.next") == []


def test_a_reply_that_wakes_its_own_function_ends_after_255_hops(world: World, new_id: str) -> None:
    # GIVEN a function that answers every event with another one of the type that wakes it
    def next_event(received: Received) -> Answer:
        hop = int(received.headers.get("ce-hop", "1"))
        following = f"{new_id}.{hop + 1}"
        world.beta.script[following] = next_event
        return reply("t.beta", following, hop=str(hop + 1), requestid=new_id)

    world.beta.script[new_id] = next_event

    # WHEN it is woken
    world.broker.post("t.beta", new_id)

    # THEN the broker delivers 255 events and refuses the next reply, and the last event is a dead letter
    headers = dead_letter(world, f"{new_id}.255").headers
    assert headers["ce-knativeerrorcode"] == "400"
    assert headers["ce-knativeerrordest"] == f"{world.broker.url}/"
    looped = [each for each in world.beta.received if each.headers.get("ce-requestid") == new_id]
    assert len(looped) == 255
    assert not [name for each in looped for name in each.headers if "ttl" in name]
