"""The platform's stand-in for Slack, where it must do what the real one does for signs that become answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.platform.test_stand_ins import StandIns

THREAD = "1700000000.000100"


def metadata(part: int) -> dict[str, Any]:
    return {"event_type": "answer", "event_payload": {"request_id": "r-1", "part": part}}


def test_a_sign_that_becomes_the_answer_is_two_deliveries_and_one_message_also_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "deliveries.jsonl"
    before = StandIns(file)
    slack = before.slack()
    channel = slack.conversations_open(users=["U1"])["channel"]["id"]
    ts = slack.chat_postMessage(channel=channel, text="Thinking…", thread_ts=THREAD, metadata=metadata(-1))["ts"]
    slack.chat_update(channel=channel, ts=ts, text="the answer", metadata=metadata(0))
    before.close()

    after = StandIns(file)
    try:
        assert [(one["request_id"], one["body"]["text"]) for one in after.deliveries()] == [
            ("r-1", "Thinking…"),
            ("r-1", "the answer"),
        ]
        _, message = after.slack().conversations_replies(channel="D1", ts=THREAD, include_all_metadata=True)["messages"]
        assert (message["ts"], message["text"], message["metadata"]) == (ts, "the answer", metadata(0))
    finally:
        after.close()


def test_a_thread_is_read_from_a_time_on(tmp_path: Path) -> None:
    here = StandIns(tmp_path / "deliveries.jsonl")
    try:
        slack = here.slack()
        first = slack.chat_postMessage(channel="C1", text="one", thread_ts=THREAD)["ts"]
        slack.chat_postMessage(channel="C1", text="two", thread_ts=THREAD)
        found = slack.conversations_replies(channel="C1", ts=THREAD, oldest=first)["messages"]
        assert [one["text"] for one in found] == ["", "two"]
    finally:
        here.close()
