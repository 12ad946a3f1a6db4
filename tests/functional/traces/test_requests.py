"""An HTTP request as a span: whose trace it is in, what its event carries, what is told of it."""

from __future__ import annotations

import uuid
from importlib.metadata import version

import pytest

from tests.functional.traces.support import ONE, WEB, World
from tests.parts.collector import traceparent
from tests.parts.events import PREFIX


def test_a_requests_span_is_the_parent_that_its_event_carries(world: World) -> None:
    answer = world.ask()

    spans = world.wait(f"POST {WEB}", f"publish {PREFIX}request.created")
    server, producer = spans
    assert (server.kind, server.parent, server.failed) == ("SERVER", ONE, False)
    assert (producer.kind, producer.parent, producer.failed) == ("PRODUCER", server.id, False)
    [published] = world.outside.events
    assert published.attribute("traceparent") == published.data()["traceparent"] == traceparent(world.trace, server.id)
    request_id = answer.json()["request_id"]
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": WEB,
        "url.path": WEB,
        "url.scheme": "http",
        "http.response.status_code": 202,
        "self_service_agent.request_id": request_id,
    }
    assert producer.attributes == {
        "messaging.system": "knative",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": f"{PREFIX}request.created",
        "messaging.message.id": request_id,
        "cloudevents.event_id": request_id,
        "cloudevents.event_source": "/self-service-agent/ingest-web",
        "cloudevents.event_spec_version": "1.0",
        "cloudevents.event_type": f"{PREFIX}request.created",
        "cloudevents.event_subject": request_id,
        "http.response.status_code": 202,
    }


def test_a_span_says_which_function_of_which_release_it_is_of(world: World) -> None:
    world.ask()
    resource = world.wait(f"POST {WEB}")[0].resource
    assert resource["service.name"] == "ingest-web"  # and not OTEL_SERVICE_NAME, which all of them have
    assert resource["service.namespace"] == "self-service-agent"
    assert resource["service.version"] == version("self-service-agent-common")
    assert resource["deployment.environment.name"] == "test"


@pytest.mark.parametrize("header", ["", "no trace context", f"00-{'0' * 32}-{'0' * 16}-01"])
def test_a_request_without_a_trace_begins_one(world: World, header: str) -> None:
    world.ask(parent=header)
    [published] = world.outside.events
    world.trace, parent = published.attribute("traceparent").split("-")[1:3]
    server = world.wait(f"POST {WEB}")[0]
    assert (server.parent, server.id) == ("", parent)


def test_what_the_caller_does_not_sample_is_not_sent(world: World) -> None:
    silent = uuid.uuid4().hex
    assert world.ask(parent=traceparent(silent, sampled=False)).status == 202
    world.ask()
    world.wait(f"publish {PREFIX}request.created")  # later, of the same function
    assert world.collector.spans(silent) == []
    assert [one.attribute("traceparent")[-2:] for one in world.outside.events] == ["00", "01"]


def test_log_lines_and_spans_find_each_other_even_of_what_is_refused(world: World) -> None:
    assert world.ask(content="").status == 422
    [span] = world.wait(f"POST {WEB}")
    assert (span.attributes["http.response.status_code"], span.failed) == (422, False)  # the caller's mistake, not ours
    assert [line["status"] for line in world.functions["ingest-web"].log() if line.get("trace_id") == world.trace] == [422]


def test_health_checks_and_background_work_make_no_traces(world: World) -> None:
    for function in world.functions.values():
        assert function.get("/health").status == 200
        assert function.get("/metrics").status == 200
    world.functions["agent-invoke"].post_event(world.recorded())
    world.wait(f"process {PREFIX}session.created")
    names = {span.name for span in world.collector.spans()}
    assert not {"ready", "renew_leases", "append_chunks", "GET /health", "GET /metrics"} & names
    assert {span.parent for span in world.collector.spans() if span.kind in ("CLIENT", "INTERNAL")}.isdisjoint({""})
