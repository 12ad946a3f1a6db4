"""GET /_broker/changes: who watches hears which requests moved, how far they are, and what was counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conftest import World
from .harness import Answer, Broker, reply, subscribers

CREATED, READY = "com.self-service-agent.request.created", "com.self-service-agent.agent.response-ready"


def changes(world: World, after: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = world.broker.request("GET", f"/_broker/changes?after={after}").json()
    return document


def of(document: dict[str, Any], request_id: str) -> dict[str, Any]:
    [found] = [one for one in document["requests"] if one["request_id"] == request_id]
    return dict(found)


def test_only_what_moved_since_is_told_the_newest_first(world: World, new_id: str) -> None:
    before = changes(world)["version"]
    for number in range(3):
        world.broker.post("t.none", f"{new_id}.{number}")
    world.broker.post("t.none", f"{new_id}.again", requestid=f"{new_id}.0")
    found = changes(world, before)
    mine = [one["request_id"] for one in found["requests"] if one["request_id"].startswith(new_id)]
    assert mine == [f"{new_id}.0", f"{new_id}.2", f"{new_id}.1"]
    assert found["version"] >= before + 4  # other tests' events may still move
    after = changes(world, found["version"])["requests"]
    assert not [one for one in after if one["request_id"].startswith(new_id)]


def test_a_request_at_a_glance(world: World, new_id: str) -> None:
    asked = json.dumps({"content": "x" * 500, "user_id": "ann"}).encode()
    world.broker.post(CREATED, new_id, asked, integration="web")
    found = of(changes(world), new_id)
    assert (found["content"], found["user_id"], found["integration"]) == ("x" * 200, "ann", "web")
    assert (found["status"], found["answered_at"], found["duration_ms"]) == ("stopped", None, None)
    answer = json.dumps({"status": "failed", "agent_id": "a", "error": {"code": "no_agent", "message": "m"}}).encode()
    world.broker.post(READY, f"{new_id}.failed", answer, requestid=new_id)
    found = of(changes(world), new_id)
    assert (found["status"], found["error"], found["agent_id"]) == ("failed", "no_agent", "a")
    assert found["duration_ms"] >= 0
    assert found["answered_at"] >= found["received_at"]


def test_where_a_request_is_and_what_went_wrong(world: World, new_id: str) -> None:
    world.alpha.script[new_id] = [Answer(503), reply("t.patient", f"{new_id}.next", requestid=new_id)]
    world.patient.close_gate()
    try:
        world.broker.post("t.alpha", new_id)
        world.broker.wait_log("accepted", event_id=f"{new_id}.next")
        found = of(changes(world), new_id)
    finally:
        world.patient.open_gate()
    assert (found["status"], found["at"], found["tries"], found["dead_letters"]) == ("open", ["patient"], 1, 0)
    dead = f"{new_id}-dead"
    world.beta.script[dead] = [Answer(400, body=b"what it said")]
    world.broker.post("t.beta", dead)
    world.broker.wait_log("delivered", event_id=dead, trigger="sink")
    found = of(changes(world), dead)
    assert (found["status"], found["at"], found["dead_letters"]) == ("stopped", [], 1)


def test_data_that_is_no_json_object_is_no_trouble(world: World, new_id: str) -> None:
    for number, data in enumerate((b"", b"[1]", b"not json")):
        world.broker.post(CREATED, f"{new_id}.{number}", data)
        assert of(changes(world), f"{new_id}.{number}")["content"] == ""


def test_counts_are_told_by_trigger_and_by_source(world: World, new_id: str) -> None:
    before = changes(world)
    world.alpha.script[new_id] = [Answer(503), reply("t.none", f"{new_id}.next", requestid=new_id)]
    world.broker.post("t.alpha", new_id)
    world.broker.wait_log("accepted", event_id=f"{new_id}.next")
    after = changes(world)
    grown = {
        name: value - before["triggers"]["alpha-alpha"][name] for name, value in after["triggers"]["alpha-alpha"].items()
    }
    assert grown == {"delivered": 1, "retried": 1, "dead_lettered": 0, "waiting": 0, "retrying": 0}
    counted = {(source, origin): number for source, origin, number in after["sources"]}
    earlier = {(source, origin): number for source, origin, number in before["sources"]}
    assert counted["/test", "ingress"] == earlier.get(("/test", "ingress"), 0) + 1
    assert counted["/test", "alpha"] == earlier.get(("/test", "alpha"), 0) + 1


def test_a_trace_has_what_was_in_the_events_when_it_is_asked_for(world: World, new_id: str) -> None:
    world.beta.script[new_id] = [Answer(400, body=b"no such thing")]
    world.broker.post("t.beta", new_id, b'{"a": "\xc3\xa4"}', sessionid="s 1")
    world.broker.wait_log("delivered", event_id=new_id, trigger="sink")
    [plain] = world.broker.trace(new_id)
    assert "data" not in plain
    [event] = world.broker.request("GET", f"/_broker/trace/{new_id}?data=true").json()["events"]
    assert event["data"] == {"a": "ä"}
    assert event["attributes"] == {
        "specversion": "1.0", "id": new_id, "source": "/test", "type": "t.beta", "datacontenttype": "application/json",
        "requestid": new_id, "sessionid": "s 1",
    }  # fmt: skip
    error = event["errors"]["sink"]
    assert (error["code"], error["answer"]) == ("400", "no such thing")
    assert error["destination"].startswith("http://127.0.0.1:")


def test_the_next_broker_on_the_store_knows_what_moved_before(tmp_path: Path) -> None:
    topology = "{broker: {dead_letter: sink}, functions: {sink: {kind: event, wakes_on: []}}}"
    with subscribers("sink") as running:
        urls = {"sink": running["sink"].url}
        with Broker(tmp_path, topology, urls) as first:
            for request_id in ("one", "two"):
                first.post("t.none", request_id)
            started = first.request("GET", "/_broker/changes").json()["started_at"]
            first.kill()
        with Broker(tmp_path, topology, urls) as second:
            found = second.request("GET", "/_broker/changes").json()
    assert [one["request_id"] for one in found["requests"]] == ["two", "one"]
    assert found["version"] == 2
    assert found["started_at"] > started
