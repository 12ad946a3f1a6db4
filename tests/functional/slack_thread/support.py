"""A request from Slack, and what is in its thread."""

from __future__ import annotations

import json
from typing import Any

from tests.parts.events import PREFIX, event
from tests.parts.functions import Event, Function
from tests.parts.postgres import Postgres
from tests.parts.samples import request_data
from tests.parts.slack import CHANNEL, TS
from tests.slack.fake import TOKEN, FakeSlack

THINKING = ":hourglass_flowing_sand: _Thinking…_"


def settings(postgres: Postgres, fake: FakeSlack, **more: str) -> dict[str, str]:
    return {**postgres.environment(), "SLACK_BOT_TOKEN": TOKEN, "SLACK_API_URL": fake.url, **more}


class Request:
    """A request from Slack itself, in the database."""

    def __init__(self, postgres: Postgres, **changes: Any) -> None:
        self._postgres = postgres
        self.data = request_data(
            request_id="r1",
            integration_type="slack",
            channel_id=CHANNEL,
            thread_id=TS,
            metadata={"slack_event": "mention"},
            accepted_at="2023-11-14T22:13:20Z",
            **changes,
        )
        postgres.query(
            "INSERT INTO request_logs (request_id, integration_type, user_id, request_content, normalized_request,"
            " cloudevent_id, accepted_at) VALUES ('r1', 'slack', 'ann', 'q', %s, 'r1', now())",
            json.dumps(self.data),
        )

    def recorded(self, event_type: str = "session.created") -> Event:
        """session.created or session.updated of it."""
        session = {"session_id": "5f2f7f1e-7a51-4c52-8f0a-6d6f2b3f9a10", "opened": True}
        return event(PREFIX + event_type, "r1.session", {"session": session, "request": self.data}, requestid="r1")

    def finish(self, content: str | None = "the answer") -> Event:
        """Answer it (or fail, for None); its response-ready event."""
        self._postgres.query(
            "UPDATE request_logs SET status = %s, response_content = %s, error_code = %s, error_message = %s,"
            " completed_at = clock_timestamp() WHERE request_id = 'r1'",
            "completed" if content is not None else "failed",
            content,
            None if content is not None else "model_not_found",
            None if content is not None else "The assistant is not set up for this.",
        )
        data = {
            "request_id": "r1",
            "session_id": None,
            "integration_type": "slack",
            "user_id": "ann",
            "status": "completed",
            "agent_id": None,
            "content": "what the event says",
            "error": None,
            "completed_at": "2026-01-01T00:00:01Z",
        }
        return event(PREFIX + "agent.response-ready", "r1.response", data, requestid="r1")


def texts(fake: FakeSlack, channel: str = CHANNEL, thread: str | None = TS) -> list[str]:
    return [one["text"] for one in fake.ours(channel, thread)]


def taken(function: Function, *events: Event) -> None:
    for one in events:
        answer = function.post_event(one)
        assert (answer.status, answer.body) == (204, b"")
