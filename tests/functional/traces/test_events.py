"""Deliveries of events as spans: each in its event's trace, with what was done in it."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

from tests.functional.traces.support import ONE, World, only
from tests.parts.collector import Span, traceparent
from tests.parts.events import PREFIX, event
from tests.parts.functions import Event


def test_every_hop_is_in_the_events_trace(world: World) -> None:
    # GIVEN a tool's request, recorded, answered and delivered
    world.know_webhook("hook")
    ready = world.recorded(integration_type="tool", integration_key="snow", content="I want to refresh my laptop")
    answered = Event.of(world.functions["agent-invoke"].post_event(ready))
    assert world.functions["response-dispatch"].post_event(answered).status == 204

    # THEN each delivery is a CONSUMER of the one span that the event named, and what it did is below it
    names = [f"process {PREFIX}{kind}" for kind in ("request.created", "session.created", "agent.response-ready")]
    spans = world.wait(*names)
    consumers = [span for span in spans if span.kind == "CONSUMER"]
    assert [span.name for span in consumers] == names
    assert {span.parent for span in consumers} == {ONE}
    below = {span.service: [one.name for one in spans if one.parent == span.id] for span in consumers}
    assert below == {
        "session-upsert": ["record_request"],
        "agent-invoke": ["claim_turn", "invoke_agent routing-agent", "finish_turn"],
        "response-dispatch": ["begin_delivery", "POST", "finish_delivery"],
    }
    assert not [span for span in spans if span.failed]
    session = ready.attribute("sessionid")
    assert [span.attributes["self_service_agent.session_id"] for span in consumers] == [session] * 3
    webhook = only(spans, "POST")
    assert webhook.kind == "CLIENT"
    assert webhook.attributes == {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "server.port": world.outside.port,
        "http.response.status_code": 202,
    }


def test_a_statement_is_told_by_its_name(world: World) -> None:
    world.recorded()
    statement = only(world.wait("record_request"), "record_request")
    database = world.postgres.environment()
    assert statement.kind == "CLIENT"
    assert statement.attributes == {
        "db.system.name": "postgresql",
        "db.namespace": database["POSTGRES_DB"],
        "db.operation.name": "record_request",
        "db.query.summary": "record_request",
        "server.address": database["POSTGRES_HOST"],
        "server.port": int(database["POSTGRES_PORT"]),
    }


def test_an_event_that_comes_again_is_one_more_span_of_its_trace(world: World) -> None:
    first, again = world.recorded(), world.recorded()

    spans = world.collector.wait(world.trace, lambda found: [span.kind for span in found].count("CONSUMER") == 2)
    assert again == first
    consumers = [span for span in spans if span.kind == "CONSUMER"]
    assert {(span.name, span.parent) for span in consumers} == {(f"process {PREFIX}request.created", ONE)}
    assert len({span.id for span in consumers}) == 2
    assert len([span for span in spans if span.name == "record_request"]) == 2


def test_an_event_that_can_never_be_handled_is_a_failure_and_its_type_no_name(world: World) -> None:
    made_up = event("made.up.type", "e1", {}, traceparent=traceparent(world.trace, ONE))
    assert world.functions["session-upsert"].post_event(made_up).status == 400
    [span] = world.wait("process")
    assert (span.failed, span.attributes["error.type"]) == (True, "400")
    assert span.attributes["cloudevents.event_type"] == "made.up.type"


def test_a_turn_that_another_worker_has_is_no_failure(world: World) -> None:
    def is_letter(span: Span) -> bool:
        return (span.service, span.kind) == ("dead-letter", "CONSUMER")

    ready = world.recorded()
    world.model.control(delay_ms=800)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(world.functions["agent-invoke"].post_event, ready)
        world.model.wait_for_calls(1)
        letter = world.created().but(knativeerrordest="http://agent-invoke.local/", knativeerrorcode="400")
        assert world.functions["dead-letter"].post_event(letter).status == 409
        assert asking.result().status == 200
    spans = world.collector.wait(world.trace, lambda found: any(is_letter(one) for one in found))
    [letter_span] = [span for span in spans if is_letter(span)]
    assert (letter_span.attributes["http.response.status_code"], letter_span.failed) == (409, False)


def test_what_dead_letter_sends_again_stays_in_its_trace(world: World) -> None:
    letter = world.created().but(knativeerrordest="http://agent-invoke.local/", knativeerrorcode="503")
    assert world.functions["dead-letter"].post_event(letter).status == 204

    spans = world.wait(f"publish {PREFIX}request.created", f"process {PREFIX}request.created")
    consumer, producer = (only(spans, f"{verb} {PREFIX}request.created") for verb in ("process", "publish"))
    assert (producer.kind, producer.parent, producer.links) == ("PRODUCER", consumer.id, ())
    assert world.outside.events[0].attribute("traceparent") == traceparent(world.trace, ONE)


def test_a_sweep_links_to_the_traces_of_what_it_sends_on(world: World) -> None:
    world.recorded()
    world.postgres.query("UPDATE request_logs SET recorded_at = recorded_at - interval '1 day'")
    asked, world.trace = world.trace, uuid.uuid4().hex
    tick = event("dev.knative.sources.ping", "tick", {}, traceparent=traceparent(world.trace, ONE))
    assert world.functions["session-sweep"].post_event(tick).status == 204

    name = f"publish {PREFIX}session.created"
    spans = world.wait(name, "process")
    assert (only(spans, name).parent, only(spans, name).links) == (only(spans, "process").id, (asked,))
