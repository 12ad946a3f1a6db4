"""The four ingest functions over real HTTP: what is accepted goes to the broker whole, once for each key."""

from __future__ import annotations

import pytest

from tests.functional.ingest.support import Caller, of
from tests.parts.functions import Function
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES


class TestAccepted:
    @pytest.mark.parametrize("behind_gateway", [False, True])
    def test_the_documents_body_is_published_whole_and_answered_202(self, caller: Caller, behind_gateway: bool) -> None:
        path = f"/api/v1/requests/{caller.integration}" if behind_gateway else "/"
        answer = caller.send(BODIES[caller.integration], path=path)

        assert answer.status == 202, answer.body
        body = answer.json()
        assert body["status"] == "accepted"
        assert body["status_url"] == answer.headers["location"] == f"/api/v1/requests/{body['request_id']}"
        [event] = caller.recorder.events
        assert event.attribute("type") == "com.self-service-agent.request.created"
        assert event.attribute("source") == f"/self-service-agent/ingest-{caller.integration}"
        assert event.attribute("requestid") == event.attribute("subject") == body["request_id"]
        assert event.attribute("integration") == caller.integration
        assert event.headers["content-type"] == "application/json"
        data = event.data()
        assert data["content"] == BODIES[caller.integration]["content"]
        assert data["user_id"] == BODIES[caller.integration]["user_id"]
        assert data["conversation_key"] == event.attribute("partitionkey")

    def test_the_session_token_goes_no_further(self, functions: dict[str, Function], recorder: Recorder) -> None:
        web = of("web", functions, recorder)
        assert web.send({**BODIES["web"], "session_token": "tell-nobody"}).status == 202
        [event] = recorder.events
        assert b"tell-nobody" not in event.body
        assert "tell-nobody" not in functions["web"].output()

    def test_a_tools_ticket_reaches_the_event(self, functions: dict[str, Function], recorder: Recorder) -> None:
        of("tool", functions, recorder).send(BODIES["tool"])
        assert recorder.events[0].data()["context"]["tool_context"] == {"ticket_id": "INC123456", "priority": "high"}

    def test_the_callers_trace_goes_on(self, caller: Caller) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        caller.send(BODIES[caller.integration], traceparent=trace)
        assert caller.recorder.events[0].attribute("traceparent") == trace

    def test_a_broken_trace_is_replaced(self, caller: Caller) -> None:
        caller.send(BODIES[caller.integration], traceparent="00-evil\tvalue")
        assert caller.recorder.events[0].attribute("traceparent").startswith("00-")
        assert "evil" not in caller.recorder.events[0].attribute("traceparent")

    def test_unicode_and_control_characters_arrive_as_they_were(self, caller: Caller) -> None:
        content = "Größe 💻 \n\t\u202e done"
        assert caller.send({**BODIES[caller.integration], "content": content}).status == 202
        assert caller.recorder.events[0].data()["content"] == content

    def test_two_people_with_one_session_token_are_two_conversations(
        self, functions: dict[str, Function], recorder: Recorder
    ) -> None:
        web = of("web", functions, recorder)
        for user in ("ann", "ben"):
            assert web.send({**BODIES["web"], "user_id": user}).status == 202
        first, second = (event.data()["conversation_key"] for event in recorder.events)
        assert first != second

    def test_two_people_in_one_slack_thread_are_two_conversations_that_may_be_shared(
        self, functions: dict[str, Function], recorder: Recorder
    ) -> None:
        slack = of("slack", functions, recorder)
        for user in ("U1", "U2"):
            assert slack.send({**BODIES["slack"], "slack_user_id": user}).status == 202
        first, second = (event.data() for event in recorder.events)
        assert first["conversation_key"] != second["conversation_key"]
        assert first["shared_key"] == second["shared_key"]


class TestIdempotencyKey:
    def test_the_same_key_of_one_caller_gives_one_id(self, caller: Caller) -> None:
        answers = [caller.send(BODIES[caller.integration], headers={"idempotency-key": "once"}) for _ in range(2)]
        assert len({answer.json()["request_id"] for answer in answers}) == 1
        assert len({event.attribute("id") for event in caller.recorder.events}) == 1

    def test_the_same_key_of_two_callers_gives_two_ids(self, functions: dict[str, Function], recorder: Recorder) -> None:
        web = of("web", functions, recorder)
        ids = {
            web.send({**BODIES["web"], "user_id": user}, headers={"idempotency-key": "once"}).json()["request_id"]
            for user in ("ann", "ben")
        }
        assert len(ids) == 2

    @pytest.mark.parametrize("key", ["", "with space", "x" * 256])
    def test_an_unusable_key_is_named(self, caller: Caller, key: str) -> None:
        document = caller.refused(caller.send(BODIES[caller.integration], headers={"idempotency-key": key}), 422)
        assert document["errors"][0]["loc"] == "header.Idempotency-Key"
