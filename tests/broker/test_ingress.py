"""What the broker takes in, what it refuses, and how an event looks to its subscriber."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import World
from .harness import event_headers

MIB = 1024 * 1024
STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
EVENT = {"specversion": "1.0", "id": "e", "source": "/test", "type": "t.alpha"}
TRANSPORT = {"host", "content-length", "prefer"}  # what a delivery has besides the event


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in event_headers("t.alpha", "invalid").items() if name not in names}


def structured(**changes: Any) -> bytes:
    return json.dumps({**EVENT, **changes}).encode()


def test_an_event_in_binary_mode_reaches_its_subscriber_unchanged(world: World, new_id: str) -> None:
    headers = event_headers(
        "t.alpha",
        new_id,
        subject="Euro%20%E2%82%AC",
        time="2026-01-02T03:04:05.678Z",
        dataschema="https://example.com/schema/1",
        sessionid="s-1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ) | {"content-type": "application/json; charset=utf-8"}
    data = b'{"content": "bytes as they came \xf0\x9f\x92\xbb" }'

    response = world.broker.request("POST", "/any/path?x=1", headers | {"x-secret": "not an attribute"}, data)

    assert (response.status, response.data) == (202, b"")
    (received,) = world.alpha.wait_for(new_id)
    assert received.body == data
    assert {k: v for k, v in received.headers.items() if k not in TRANSPORT} == headers
    assert received.headers["prefer"] == "reply"


def test_an_event_without_data_stays_one(world: World, new_id: str) -> None:
    headers = event_headers("t.alpha", new_id)
    del headers["content-type"]

    assert world.broker.request("POST", "/", headers).status == 202

    (received,) = world.alpha.wait_for(new_id)
    assert received.body == b""
    assert {k: v for k, v in received.headers.items() if k not in TRANSPORT} == headers


def test_an_event_in_structured_mode_is_delivered_in_binary_mode(world: World, new_id: str) -> None:
    event = structured(id=new_id, subject='50% "off" €', urgent=True, count=7, unset=None, data={"n": [1, "é"]})

    assert world.broker.request("POST", "/", STRUCTURED, event).status == 202

    (received,) = world.alpha.wait_for(new_id)
    assert json.loads(received.body) == {"n": [1, "é"]}
    assert {k: v for k, v in received.headers.items() if k not in TRANSPORT} == {
        "ce-specversion": "1.0",
        "ce-id": new_id,
        "ce-source": "/test",
        "ce-type": "t.alpha",
        "ce-subject": "50%25%20%22off%22%20%E2%82%AC",
        "ce-urgent": "true",
        "ce-count": "7",
        "content-type": "application/json",
    }


@pytest.mark.parametrize(
    ("members", "content_type", "body"),
    [
        ({"data_base64": "AP8=", "datacontenttype": "image/png"}, "image/png", b"\x00\xff"),
        ({"data": "<a/>", "datacontenttype": "text/xml"}, "text/xml", b"<a/>"),
        ({"data": "text", "datacontenttype": "application/problem+json"}, "application/problem+json", b'"text"'),
    ],
    ids=["base64", "text", "json-string"],
)
def test_structured_data_becomes_its_bytes(
    world: World, new_id: str, members: dict[str, str], content_type: str, body: bytes
) -> None:
    assert world.broker.request("POST", "/", STRUCTURED, structured(id=new_id, **members)).status == 202

    (received,) = world.alpha.wait_for(new_id)
    assert (received.headers["content-type"], received.body) == (content_type, body)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "application/json"}, b"{}"),
        (without("ce-id"), b"{}"),
        (without("ce-source"), b"{}"),
        (without("ce-type"), b"{}"),
        (event_headers("t.alpha", "invalid") | {"ce-specversion": "0.3"}, b"{}"),
        (event_headers("t.alpha", "invalid", time="yesterday"), b"{}"),
        (event_headers("t.alpha", "invalid") | {"ce-under_score": "1"}, b"{}"),
        (event_headers("t.alpha", "invalid", subject="\u00ff".encode("latin-1").decode("latin-1")), b"{}"),
        (STRUCTURED, b"{"),
        (STRUCTURED, b"[]"),
        (STRUCTURED, b"\xff"),
        (STRUCTURED, b"[" * 100_000),
        (STRUCTURED, structured(id="")),
        (STRUCTURED, structured(id=None)),
        (STRUCTURED, structured(nested={"a": 1})),
        (STRUCTURED, structured(price=1.5)),
        (STRUCTURED, structured(subject="\ud800")),
        (STRUCTURED, structured(Upper="x")),
        (STRUCTURED, structured(data=1, data_base64="AA==")),
        (STRUCTURED, structured(data_base64="!")),
        (STRUCTURED, structured(data={}, datacontenttype="text/plain")),
        (STRUCTURED, structured(data=1, datacontenttype="a/b\r\nce-id: other")),
        (STRUCTURED, structured(data=float("nan"))),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]"),
        ({"content-type": "application/cloudevents+xml"}, b"<event/>"),
    ],
)
def test_what_is_no_valid_event_is_refused_and_not_stored(world: World, headers: dict[str, str], body: bytes) -> None:
    accepted = world.broker.stats()["accepted"]

    response = world.broker.request("POST", "/", headers, body)

    assert response.status == 400
    assert response.headers["content-type"].startswith("application/problem+json")
    problem = response.json()
    assert problem["status"] == 400
    assert {"type", "title", "detail"} <= problem.keys()
    assert world.broker.stats()["accepted"] == accepted


def test_a_newline_in_an_attribute_makes_no_header(world: World, new_id: str) -> None:
    event = structured(id=new_id, subject="a\r\nx-evil: 1")

    assert world.broker.request("POST", "/", STRUCTURED, event).status == 202

    (received,) = world.alpha.wait_for(new_id)
    assert received.headers["ce-subject"] == "a%0D%0Ax-evil:%201"
    assert "x-evil" not in received.headers


def test_a_body_of_a_mebibyte_is_taken_and_a_larger_one_is_not(world: World, new_id: str) -> None:
    headers = event_headers("t.alpha", new_id)
    assert world.broker.request("POST", "/", headers, b"x" * MIB).status == 202
    assert len(world.alpha.wait_for(new_id)[0].body) == MIB

    def chunks() -> Iterator[bytes]:
        for _ in range(17):
            yield b"x" * (MIB // 16)

    for body in (b"x" * (MIB + 1), chunks()):
        response = world.broker.request("POST", "/", headers, body)
        assert response.status == 413
        assert response.json()["status"] == 413


def test_an_event_that_no_trigger_wants_is_accepted_and_traced(world: World, new_id: str) -> None:
    world.broker.post("t.alphabet", new_id)  # only the whole type counts

    (event,) = world.broker.trace(new_id)
    assert (event["id"], event["type"], event["deliveries"]) == (new_id, "t.alphabet", [])


def test_an_event_goes_to_every_trigger_that_wants_it(world: World, new_id: str) -> None:
    world.alpha.script[new_id] = []

    world.broker.post("t.both", new_id)

    world.alpha.wait_for(new_id)
    world.beta.wait_for(new_id)


@pytest.mark.parametrize(("hops", "status"), [("2", 202), ("1", 400), ("0", 400), ("-3", 400), ("many", 202)])
def test_the_hops_of_an_event_are_counted_and_hidden(world: World, new_id: str, hops: str, status: int) -> None:
    event_id = f"{new_id}.{hops}"
    headers = event_headers("t.alpha", event_id, knativebrokerttl=hops)

    assert world.broker.request("POST", "/", headers, b"{}").status == status

    if status == 202:
        (received,) = world.alpha.wait_for(event_id)
        assert "ce-knativebrokerttl" not in received.headers


def test_other_methods_and_paths_say_what_they_are(world: World) -> None:
    assert world.broker.request("GET", "/health").status == 200
    assert world.broker.request("HEAD", "/health").status == 200
    for method, path, status, allow in [
        ("GET", "/", 405, "POST"),
        ("PUT", "/events", 405, "POST"),
        ("POST", "/health", 405, "GET, HEAD"),
        ("POST", "/_broker/stats", 405, "GET, HEAD"),
        ("GET", "/_broker/other", 404, None),
    ]:
        response = world.broker.request(method, path)
        assert (response.status, response.headers.get("allow")) == (status, allow)
        assert response.json()["status"] == status
