"""The stand-ins for Slack and for webhooks, used as the functions use them: through slack_sdk's own client, over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import uvloop
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from infra.local.deliveries import Deliveries
from infra.local.front_door import FrontDoor, Routes, listen, origin_of
from infra.local.platform_api import PlatformApi, View
from infra.local.proxy import Proxy, session
from tests.parts.net import call, problem

THREAD = "1700000000.000100"


class StandIns:
    """The front door of a platform without functions, in a thread of its own."""

    def __init__(self, file: Path, *, standing_in: bool = True) -> None:
        self.url = ""
        self._ready = threading.Event()
        self._file = file if standing_in else None
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(20)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()

        async def nothing() -> Any:
            return {}

        deliveries = Deliveries(self._file) if self._file else None
        async with session() as client:
            view = View(nothing, nothing, lambda one: f"http://127.0.0.1:9/{one}")
            door = FrontDoor(Routes([], {}), Proxy(client), PlatformApi(view, client, deliveries))
            listener = listen("127.0.0.1", 0)
            self.url = origin_of(listener)
            await door.open(listener)
            self._ready.set()
            await self._stop.wait()
            await door.close()
        if deliveries:
            deliveries.close()

    def slack(self, token: str = "xoxb-local") -> WebClient:
        return WebClient(token, base_url=f"{self.url}/_platform/slack/api/", timeout=20)

    def deliveries(self) -> Any:
        return call("GET", f"{self.url}/_platform/deliveries").json()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)


@pytest.fixture
def stand_ins(tmp_path: Path) -> Iterator[StandIns]:
    here = StandIns(tmp_path / "deliveries.jsonl")
    yield here
    here.close()


def metadata(request_id: str) -> dict[str, Any]:
    return {"event_type": "answer", "event_payload": {"request_id": request_id}}


def test_a_posted_message_is_a_delivery_and_is_found_in_its_thread(stand_ins: StandIns) -> None:
    slack = stand_ins.slack()

    posted = slack.chat_postMessage(channel="C1", text="hélló", thread_ts=THREAD, metadata=metadata("r-1"))

    assert posted["ok"] is True
    assert posted["message"]["text"] == "hélló"
    (delivery,) = stand_ins.deliveries()
    assert (delivery["channel"], delivery["request_id"]) == ("slack", "r-1")
    assert delivery["body"]["text"] == "hélló"
    assert delivery["headers"]["authorization"] == "(not kept)"
    found = slack.conversations_replies(channel="C1", ts=THREAD, include_all_metadata=True)["messages"]
    assert [one.get("metadata") for one in found] == [None, metadata("r-1")]
    assert found[0]["ts"] == THREAD
    assert found[1]["ts"] == posted["ts"]
    without = slack.conversations_replies(channel="C1", ts=THREAD)["messages"]
    assert "metadata" not in without[1]


def test_messages_are_told_apart_by_ts_channel_and_thread_and_come_in_pages(stand_ins: StandIns) -> None:
    slack = stand_ins.slack()
    stamps = [slack.chat_postMessage(channel="C1", text=str(n), thread_ts=THREAD)["ts"] for n in range(5)]
    slack.chat_postMessage(channel="C2", text="elsewhere", thread_ts=THREAD)
    alone = slack.chat_postMessage(channel="C1", text="no thread")["ts"]

    assert sorted(set(stamps)) == stamps
    first = slack.conversations_replies(channel="C1", ts=THREAD, limit=4)
    assert first["has_more"] is True
    cursor = first["response_metadata"]["next_cursor"]
    rest = slack.conversations_replies(channel="C1", ts=THREAD, limit=4, cursor=cursor)
    assert [one["text"] for one in (*first["messages"], *rest["messages"])] == ["", "0", "1", "2", "3", "4"]
    assert [one["ts"] for one in slack.conversations_history(channel="C1")["messages"]] == [alone]


def test_messages_can_be_changed_deleted_and_reacted_to(stand_ins: StandIns) -> None:
    slack = stand_ins.slack()
    ts = slack.chat_postMessage(channel="C1", text="one")["ts"]

    assert slack.chat_update(channel="C1", ts=ts, text="two")["text"] == "two"
    assert slack.conversations_history(channel="C1")["messages"][0]["text"] == "two"
    slack.reactions_add(channel="C1", timestamp=ts, name="eyes")
    slack.chat_delete(channel="C1", ts=ts)
    assert slack.conversations_history(channel="C1")["messages"] == []
    assert slack.auth_test()["user_id"] == "U0AGENT"
    assert slack.users_info(user="U1")["user"]["id"] == "U1"
    assert slack.chat_postMessage(channel="U1", text="direct")["channel"] == "D1"


@pytest.mark.parametrize(
    ("error", "use"),
    [
        ("channel_not_found", lambda slack: slack.chat_postMessage(channel="nowhere", text="x")),
        ("msg_too_long", lambda slack: slack.chat_postMessage(channel="C1", text="x" * 40_001)),
        ("no_text", lambda slack: slack.api_call("chat.postMessage", json={"channel": "C1"})),
        ("invalid_metadata_format", lambda slack: slack.chat_postMessage(channel="C1", text="x", metadata={"a": 1})),
        ("message_not_found", lambda slack: slack.chat_update(channel="C1", ts="1.2", text="x")),
        ("unknown_method", lambda slack: slack.api_call("chat.none")),
        ("user_not_found", lambda slack: slack.users_info(user="nobody")),
    ],
)
def test_what_slack_refuses_is_refused_with_slacks_code(
    stand_ins: StandIns, error: str, use: Callable[[WebClient], Any]
) -> None:
    with pytest.raises(SlackApiError) as refused:
        use(stand_ins.slack())

    assert refused.value.response["error"] == error
    assert stand_ins.deliveries() == []


def test_without_a_token_or_with_another_kind_nothing_is_done(stand_ins: StandIns) -> None:
    url = f"{stand_ins.url}/_platform/slack/api/chat.postMessage"

    assert call("POST", url, json_body={"channel": "C1", "text": "x"}).json() == {"ok": False, "error": "not_authed"}
    with pytest.raises(SlackApiError, match="invalid_auth"):
        stand_ins.slack("secret").chat_postMessage(channel="C1", text="x")
    assert stand_ins.deliveries() == []


def test_a_form_is_read_as_json_is(stand_ins: StandIns) -> None:
    form = urlencode({"token": "xoxb-local", "channel": "C1", "text": "a b", "metadata": json.dumps(metadata("r"))}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded"}

    assert call("POST", f"{stand_ins.url}/_platform/slack/api/chat.postMessage", body=form, headers=headers).json()["ok"]

    (delivery,) = stand_ins.deliveries()
    assert (delivery["request_id"], delivery["body"]["text"]) == ("r", "a b")
    assert "token" not in delivery["body"]


def test_deliveries_and_messages_outlive_the_platform_and_a_torn_line_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "deliveries.jsonl"
    before = StandIns(file)
    ts = before.slack().chat_postMessage(channel="C1", text="one", thread_ts=THREAD, metadata=metadata("r-1"))["ts"]
    call("POST", f"{before.url}/_platform/webhook/tool", json_body={"request_id": "r-2"})
    before.close()
    with file.open("ab") as torn:
        torn.write(b'{"channel": "sla')

    after = StandIns(file)
    try:
        assert [one["request_id"] for one in after.deliveries()] == ["r-1", "r-2"]
        found = after.slack().conversations_replies(channel="C1", ts=THREAD, include_all_metadata=True)["messages"]
        assert (found[1]["ts"], found[1]["metadata"]) == (ts, metadata("r-1"))
        assert after.slack().chat_postMessage(channel="C1", text="two")["ts"] > ts
        assert [one["body"].get("text") for one in after.deliveries()] == ["one", None, "two"]
    finally:
        after.close()


def test_a_webhook_that_is_no_json_is_refused(stand_ins: StandIns) -> None:
    problem(call("POST", f"{stand_ins.url}/_platform/webhook/tool", body=b"{"), 400)
    assert stand_ins.deliveries() == []


def test_with_a_real_slack_token_nothing_is_stood_in_for(tmp_path: Path) -> None:
    here = StandIns(tmp_path / "deliveries.jsonl", standing_in=False)
    try:
        problem(call("POST", f"{here.url}/_platform/webhook/tool", json_body={}), 404)
        problem(call("POST", f"{here.url}/_platform/slack/api/auth.test"), 404)
        assert here.deliveries() == []
    finally:
        here.close()
