"""Calls of the model, of Slack and of a webhook as spans; and what no span ever holds."""

from __future__ import annotations

from tests.functional.traces.support import SECRET, WEB, World, only
from tests.parts.events import PREFIX
from tests.parts.functions import Event
from tests.parts.samples import BODIES, GATEWAY_SECRET


def test_a_turn_tells_each_call_of_the_model(world: World) -> None:
    ready = world.recorded(content="I want to refresh my laptop")
    world.functions["agent-invoke"].post_event(ready)

    spans = world.wait(f"process {PREFIX}session.created")
    turn = only(spans, "invoke_agent routing-agent")
    calls = [span for span in spans if span.name == "chat demo/demo-model"]
    session = ready.attribute("sessionid")
    of_all = {"gen_ai.provider.name": "llama_stack", "gen_ai.conversation.id": session}
    assert turn.kind == "INTERNAL"
    assert turn.attributes.items() >= of_all.items() | {
        ("gen_ai.operation.name", "invoke_agent"),
        ("gen_ai.agent.id", "routing-agent"),
        ("gen_ai.agent.name", "routing-agent"),
        ("self_service_agent.model_calls", 2),
    }
    assert turn.attributes["self_service_agent.handoffs"] == ["laptop-refresh"]
    assert [(span.kind, span.parent) for span in calls] == [("CLIENT", turn.id)] * 2
    assert [span.attributes["gen_ai.agent.name"] for span in calls] == ["routing-agent", "laptop-refresh"]
    assert [span.attributes["gen_ai.response.finish_reasons"] for span in calls] == [["tool_call"], ["stop"]]
    for span in calls:
        assert span.attributes.items() >= of_all.items() | {
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.request.model", "demo/demo-model"),
            ("gen_ai.request.stream", True),
        }
    for kind in ("input", "output"):
        used = f"gen_ai.usage.{kind}_tokens"
        assert turn.attributes[used] == sum(span.attributes[used] for span in calls) > 0
    # The first call only hands over, and writes nothing.
    answered = calls[1].attributes["gen_ai.response.time_to_first_chunk"]
    assert 0 < answered <= (calls[1].ended - calls[1].started) / 1e9


def test_a_failed_call_of_the_model_fails_the_delivery(world: World) -> None:
    ready = world.recorded()
    world.model.control(fail_next=9)  # the server asks again by itself
    assert world.functions["agent-invoke"].post_event(ready).status == 503

    spans = world.wait(f"process {PREFIX}session.created")
    failed = {span.name: span.attributes["error.type"] for span in spans if span.failed}
    assert failed == {
        "chat demo/demo-model": "Unavailable",
        "invoke_agent routing-agent": "Unavailable",
        f"process {PREFIX}session.created": "503",
    }


def test_a_webhook_that_is_no_url_is_refused_as_it_is_without_traces(world: World) -> None:
    world.know_webhook("https://[no-address/hook")
    ready = world.recorded(integration_type="tool", integration_key="snow")
    answered = Event.of(world.functions["agent-invoke"].post_event(ready))
    assert world.functions["response-dispatch"].post_event(answered).status == 422
    sent = only(world.wait(f"process {PREFIX}agent.response-ready"), "POST")
    assert (sent.failed, sent.attributes) == (True, {"http.request.method": "POST", "error.type": "Refused"})


def test_calls_of_slack_are_told_by_their_method(world: World) -> None:
    world.outside.status = 200
    world.outside.answer_headers = {"content-type": "application/json"}
    world.outside.answer_body = b'{"ok": false, "error": "channel_is_archived"}'
    ready = world.recorded(
        integration_type="slack", channel_id="C1", metadata={"slack_event": "mention"}, content="a private question"
    )
    assert world.functions["response-dispatch"].post_event(ready).status == 204

    spans = world.wait(f"process {PREFIX}session.created", "POST /chat.postMessage")
    sent = only(spans, "POST /chat.postMessage")
    assert (sent.kind, sent.failed, sent.attributes["error.type"]) == ("CLIENT", True, "channel_is_archived")
    assert sent.attributes["http.response.status_code"] == 200
    assert not only(spans, f"process {PREFIX}session.created").failed  # a sign in the thread is a courtesy


def test_no_span_holds_what_was_said_nor_who_said_it_nor_a_secret(world: World) -> None:
    # GIVEN answers on their way to Slack and to a webhook whose URL holds a key
    said = "a-question-8f2a"
    world.outside.status = 200
    world.outside.answer_body = b'{"ok": true, "ts": "1700000000.000100", "channel": "C1"}'
    world.know_webhook("hook?key=private")
    request_id = world.ask(said).json()["request_id"]
    for integration in ("slack", "tool"):
        ready = world.recorded(
            integration,
            integration_type=integration,
            integration_key="snow" if integration == "tool" else "",
            conversation_key=integration,
            channel_id="C1",
            content=said,
            user_id="the-person-77",
        )
        answered = Event.of(world.functions["agent-invoke"].post_event(ready))
        assert said in answered.data()["content"]
        assert world.functions["response-dispatch"].post_event(answered).status == 204

    # WHEN all of it has arrived
    world.collector.wait(world.trace, lambda spans: [span.kind for span in spans].count("CONSUMER") == 6)
    world.wait(f"POST {WEB}")

    # THEN it tells of the requests, and of nothing that is anybody's
    everything = b"".join(span.raw for span in world.collector.spans())
    assert request_id.encode() in everything
    password = world.postgres.environment()["POSTGRES_PASSWORD"]
    private = (said, "the-person-77", BODIES["web"]["user_id"], GATEWAY_SECRET, SECRET, "xoxb-a-secret", "private", password)
    for text in private:
        assert text
        assert text.encode() not in everything, text
