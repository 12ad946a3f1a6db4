"""One request is one trace, over every function that it goes through, on the whole running platform."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.parts.chain import LOCAL_TOOL_KEY, Chain, whole_platform
from tests.parts.collector import Collector, Span, traceparent
from tests.parts.samples import BODIES
from tests.platform.support import Platform

PREFIX = "com.self-service-agent."
CALLER = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.close()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Platform]:
    with whole_platform(tmp_path_factory.mktemp("traced"), **collector.environment) as running:
        yield running


def way(spans: list[Span]) -> list[tuple[str, str]]:
    """What each function handled, in the order in which that began."""
    return [(one.service, one.name.replace(PREFIX, "")) for one in spans if one.kind in ("SERVER", "CONSUMER")]


def expected(integration: str) -> list[tuple[str, str]]:
    """What each function has to handle of a request."""
    return [
        (f"ingest-{integration}", f"POST /api/v1/requests/{integration}"),
        ("session-upsert", "process request.created"),
        ("agent-invoke", "process session.created"),
        ("response-dispatch", "process agent.response-ready"),
    ]


def traced(chain: Chain, collector: Collector, integration: str) -> list[Span]:
    """The trace of one request in a new conversation, when all of it has arrived: a span comes after those within it."""
    trace = uuid.uuid4().hex
    new = {"thread_id": "1700000000.000100", "session_token": trace, "tool_instance_id": trace}
    body = {
        "content": f"I want to refresh my laptop {trace}",
        **{key: new[key] for key in new if key in BODIES[integration]},
    }
    chain.ask(integration, body, traceparent=traceparent(trace, CALLER))
    return collector.wait(trace, lambda spans: set(way(spans)) >= set(expected(integration)))


def test_a_request_from_the_web_is_one_trace(chain: Chain, collector: Collector) -> None:
    spans = traced(chain, collector, "web")

    assert way(spans) == expected("web")
    by_id = {span.id: span for span in spans}
    [first] = [span for span in spans if span.parent == CALLER]
    assert first.service == "ingest-web"
    assert [span.name for span in spans if span.parent not in by_id] == [first.name]  # every other parent is known
    assert {span.parent for span in spans if span.kind == "CONSUMER"} == {first.id}
    assert all(first.started <= span.started <= span.ended for span in spans)
    inner = {(span.service, span.name) for span in spans if by_id.get(span.parent, first).kind == "CONSUMER"}
    assert inner >= {
        ("session-upsert", "record_request"),
        ("agent-invoke", "claim_turn"),
        ("agent-invoke", "invoke_agent routing-agent"),
        ("agent-invoke", "finish_turn"),
    }
    assert [span.name for span in spans if by_id.get(span.parent, first).name == "invoke_agent routing-agent"] == [
        "chat demo/demo-model",
        "chat demo/demo-model",
    ]
    assert not [span for span in spans if span.failed]


@pytest.mark.parametrize(
    ("integration", "sent"), [("tool", ["POST"]), ("slack", ["POST /chat.postMessage"])], ids=["webhook", "slack"]
)
def test_the_delivery_is_in_the_trace(chain: Chain, collector: Collector, integration: str, sent: list[str]) -> None:
    spans = traced(chain, collector, integration)
    deliveries = [span for span in spans if span.name == f"process {PREFIX}agent.response-ready"]
    below = [span for span in spans if span.parent in {one.id for one in deliveries}]
    assert [span.name for span in below if span.name.startswith("POST")] == sent
    assert {span.service for span in below} == {"response-dispatch"}


def test_nothing_that_was_said_is_in_any_span(chain: Chain, collector: Collector) -> None:
    traced(chain, collector, "tool")
    everything = b"".join(span.raw for span in collector.spans())
    assert b"snow-integration" not in everything
    for body in BODIES.values():
        for text in ("refresh my laptop", body["user_id"], LOCAL_TOOL_KEY, "INC123456"):
            assert text.encode() not in everything, text
