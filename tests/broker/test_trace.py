"""What the broker tells of its events: traces, counts and log lines."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from .conftest import World
from .harness import Answer, reply

WHEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_a_trace_tells_a_requests_way(world: World, new_id: str) -> None:
    world.alpha.script[new_id] = [Answer(503, pause=0.1), reply("t.beta", f"{new_id}.next", requestid=new_id)]
    world.beta.script[f"{new_id}.next"] = [Answer(400)]

    world.broker.post("t.alpha", new_id)

    world.broker.wait_log("delivered", event_id=f"{new_id}.next", trigger="sink")
    first, second = world.broker.trace(new_id)
    (delivery,) = first["deliveries"]
    times = (first["received_at"], delivery["first_attempt_at"], delivery["finished_at"])
    assert all(WHEN.fullmatch(each) for each in times)
    received, started, finished = map(datetime.fromisoformat, times)
    assert received <= started <= finished - timedelta(seconds=0.1)  # from the first try to the end of the last
    assert 0 < delivery["duration_ms"] < 30_000
    assert first == {
        "id": new_id,
        "source": "/test",
        "type": "t.alpha",
        "received_at": first["received_at"],
        "from": "ingress",
        "deliveries": [
            {
                "trigger": "alpha-alpha",
                "function": "alpha",
                "state": "delivered",
                "attempts": 2,
                "first_attempt_at": delivery["first_attempt_at"],
                "finished_at": delivery["finished_at"],
                "duration_ms": delivery["duration_ms"],
                "status": 200,
            }
        ],
    }
    assert second["from"] == "alpha"
    assert [(each["function"], each["state"], each["status"]) for each in second["deliveries"]] == [
        ("beta", "dead_lettered", 400),
        ("sink", "delivered", 202),
    ]


def test_a_trace_tells_what_is_going_on_now(world: World, new_id: str) -> None:
    # GIVEN a retry that is an hour away, and deliveries that fill the 50 places of their Trigger
    world.patient.script[f"{new_id}.retrying"] = [Answer(503)]
    world.broker.post("t.patient", f"{new_id}.retrying")
    world.broker.wait_log("retried", event_id=f"{new_id}.retrying")
    world.patient.close_gate()
    try:
        for number in range(51):
            world.broker.post("t.patient", f"{new_id}.{number}")
        world.patient.wait_for(f"{new_id}.49")

        # WHEN their traces are read
        states = {name: world.broker.trace(f"{new_id}.{name}")[0]["deliveries"][0] for name in ("retrying", "0", "50")}

        # THEN each says how it stands
        assert [(each["state"], each["attempts"], each["status"]) for each in states.values()] == [
            ("retrying", 1, 503),
            ("in_flight", 0, None),
            ("waiting", 0, None),
        ]
        assert states["0"]["first_attempt_at"] is not None
        assert states["50"]["first_attempt_at"] is None
        assert all(each["finished_at"] is None for each in states.values())
        assert world.broker.stats()["functions"]["patient"]["waiting"] == 52
    finally:
        world.patient.open_gate()
    world.broker.wait_log("delivered", event_id=f"{new_id}.50")


def test_a_request_that_is_not_known_has_no_events(world: World) -> None:
    assert world.broker.trace("never-seen") == []


def test_a_request_id_may_hold_any_character(world: World, new_id: str) -> None:
    world.broker.post("t.nobody", new_id, requestid="a%2Fb%20%E2%82%AC")

    response = world.broker.request("GET", "/_broker/trace/a%2Fb%20%E2%82%AC").json()

    assert response["request_id"] == "a/b €"
    assert [event["id"] for event in response["events"]] == [new_id]


def test_stats_count_what_happened(world: World, new_id: str) -> None:
    before = world.broker.stats()
    world.alpha.script[new_id] = [Answer(503), reply("t.beta", f"{new_id}.next")]
    world.beta.script[f"{new_id}.next"] = [Answer(400)]

    world.broker.post("t.alpha", new_id)

    world.broker.wait_log("delivered", event_id=f"{new_id}.next", trigger="sink")
    after = world.broker.stats()
    names = ("accepted", "replies", "delivered", "retried", "dead_lettered")
    assert {name: after[name] - before[name] for name in names} == {
        "accepted": 1, "replies": 1, "delivered": 2, "retried": 1, "dead_lettered": 1
    }  # fmt: skip
    changes = {
        function: {name: count - before["functions"][function][name] for name, count in counts.items()}
        for function, counts in after["functions"].items()
    }
    assert changes["alpha"] == {"delivered": 1, "retried": 1, "dead_lettered": 0, "waiting": 0}
    assert changes["beta"] == {"delivered": 0, "retried": 0, "dead_lettered": 1, "waiting": 0}
    assert changes["sink"] == {"delivered": 1, "retried": 0, "dead_lettered": 0, "waiting": 0}


def test_log_lines_tell_of_events_and_never_their_data(world: World, new_id: str) -> None:
    world.alpha.script[new_id] = [Answer(503, {}, b"answer-9f2c"), Answer(400, {}, b"answer-9f2c")]

    world.broker.post("t.alpha", new_id, b'{"content":"data-7d1e"}', requestid="the-request")

    world.broker.wait_log("delivered", event_id=new_id, trigger="sink")
    lines = [line for line in world.broker.log if line.get("event_id") == new_id]
    assert [(line["message"], line.get("trigger"), line.get("status"), line.get("attempt")) for line in lines] == [
        ("accepted", None, None, None),
        ("retried", "alpha-alpha", 503, 1),
        ("dead_lettered", "alpha-alpha", 400, 2),
        ("delivered", "sink", 202, 1),
    ]
    assert {(line["request_id"], line["type"]) for line in lines} == {("the-request", "t.alpha")}
    assert not [line for line in world.broker.raw_log if "data-7d1e" in line or "answer-9f2c" in line]
