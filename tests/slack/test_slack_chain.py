"""Slack end to end: a workspace that checks every call, the whole running platform, a real Llama Stack server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.parts.chain import whole_platform
from tests.parts.net import call
from tests.parts.slack import BOT, CHANNEL, DIRECT, PERSON
from tests.platform.support import Platform, until
from tests.slack.fake import TOKEN, FakeSlack, Message
from tests.slack.workspace import Workspace

SIGNING_SECRET = "local-slack-secret"  # pragma: allowlist secret
THINKING = ":hourglass_flowing_sand: _Thinking…_"


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeSlack]:
    workspace = FakeSlack()
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def platform(fake: FakeSlack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    place = tmp_path_factory.mktemp("slack")
    with whole_platform(place, SLACK_BOT_TOKEN=TOKEN, SLACK_API_URL=fake.url) as running:
        yield running


@pytest.fixture
def workspace(platform: Platform, fake: FakeSlack) -> Iterator[Workspace]:
    """People in Slack; afterwards every call was one that a careful app makes."""
    fake.clear()
    model(platform, "/reset")
    model(platform, delay_ms=1000)
    one = Workspace(fake, f"{platform.url}/api/v1/requests/slack", SIGNING_SECRET)
    yield one
    until(lambda: settled(platform), "the broker has delivered everything")
    one.close()
    assert fake.faults == []


def model(platform: Platform, path: str = "", **settings: int) -> None:
    url = platform.description()["demo_model"]["url"]
    assert call("POST", f"{url}/_control{path}", json_body=settings).status == 200


def settled(platform: Platform) -> bool:
    broker = platform.description()["broker"]["url"].rsplit("/", 2)[0]
    return bool(call("GET", f"{broker}/_broker/stats").json()["waiting"] == 0)


def rows(platform: Platform, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(platform.description()["database"]["url"], autocommit=True) as connection:
        return connection.execute(statement, parameters).fetchall()


def sign_then_answer(fake: FakeSlack, channel: str, thread: str | None, number: int) -> Message:
    """The bot's message number `number` there, once it is an answer; it was posted as the sign."""

    def answered() -> Message | None:
        found = fake.ours(channel, thread)
        return found[number] if len(found) > number and found[number]["text"] != THINKING else None

    answer: Message = fake.wait_for(answered, "the sign becomes the answer")
    posted = [arguments["text"] for method, arguments in fake.calls if method == "chat.postMessage"]
    assert posted[number] == THINKING
    return answer


def test_a_thread_question_thinking_answer_follow_up(platform: Platform, workspace: Workspace) -> None:
    fake = workspace.fake
    before = rows(platform, "SELECT count(*) FROM request_logs")[0][0]

    # Ann mentions the bot in a channel; Slack tells of it three times.
    question = workspace.mention("I want to refresh my laptop")
    first = sign_then_answer(fake, CHANNEL, question["ts"], 0)
    # She goes on in the thread without a mention; Ben says something there too.
    workspace.reply("good luck!", question["ts"], user="U0BEN")
    workspace.reply("What did I ask first?", question["ts"])
    second = sign_then_answer(fake, CHANNEL, question["ts"], 1)

    assert "I want to refresh my laptop" in second["text"]
    until(lambda: settled(platform), "the broker has delivered everything")
    recorded = rows(
        platform,
        "SELECT request_type, agent_id, session_id, status FROM request_logs WHERE normalized_request ->> 'thread_id' = %s"
        " ORDER BY accepted_at",
        question["ts"],
    )
    assert [(kind, agent, status) for kind, agent, _, status in recorded] == [
        ("mention", "laptop-refresh", "completed"),
        ("thread_reply", "laptop-refresh", "completed"),
    ]
    assert len({session for _, _, session, _ in recorded}) == 1
    assert rows(platform, "SELECT count(*) FROM request_logs") == [(before + 2,)]
    assert [one["ts"] for one in fake.ours(CHANNEL, question["ts"])] == [first["ts"], second["ts"]]
    assert fake.called() == ["chat.postMessage", "chat.update"] * 2
    if folder := os.environ.get("RECORD"):
        record(Path(folder), fake, question)


def test_a_command_is_answered_in_direct_messages_where_the_talk_goes_on(platform: Platform, workspace: Workspace) -> None:
    fake = workspace.fake
    assert "direct message" in workspace.command("I want to refresh my laptop")
    sign_then_answer(fake, DIRECT, None, 0)
    workspace.direct("What did I ask first?")
    second = sign_then_answer(fake, DIRECT, None, 1)
    assert "I want to refresh my laptop" in second["text"]
    assert rows(
        platform, "SELECT count(DISTINCT session_id) FROM request_logs WHERE request_type IN ('command', 'message')"
    ) == [(1,)]


def test_a_press_asks_in_the_thread(platform: Platform, workspace: Workspace) -> None:
    question = workspace.mention("hello")
    answer = sign_then_answer(workspace.fake, CHANNEL, question["ts"], 0)
    workspace.press("I want to refresh my laptop", answer)
    pressed = sign_then_answer(workspace.fake, CHANNEL, question["ts"], 1)
    assert "laptop" in pressed["text"]


def test_an_answer_while_slack_is_in_trouble_arrives_once(platform: Platform, workspace: Workspace) -> None:
    fake = workspace.fake
    question = workspace.mention("a printer")
    fake.wait_for(lambda: fake.ours(CHANNEL, question["ts"]), "the sign stands there")
    fake.script("chat.update", status=429, error="ratelimited", headers={"retry-after": "1"})
    fake.script("chat.update", error="lost")
    fake.wait_for(lambda: "printer" in fake.ours(CHANNEL, question["ts"])[0]["text"], "the answer is there")
    until(lambda: settled(platform), "the broker has delivered everything")
    assert len(fake.ours(CHANNEL, question["ts"])) == 1


def record(folder: Path, fake: FakeSlack, question: Message) -> None:
    """Write the thread down as it happened, with the calls that made it."""
    lines = [
        "# A thread in Slack",
        "",
        "Recorded by `RECORD=docs/recorded make test ARGS='tests/slack -k follow_up'`: the whole platform, a real Llama",
        "Stack server with the scripted model, and a Slack that checks every call. Ben's words are other people's talk:",
        "they are not kept.",
        "",
    ]
    for message in fake.messages(CHANNEL, question["ts"]):
        if message["user"] == BOT:
            lines += ["**agent**, while it works", "", f"> {THINKING}", "", "becomes", ""]
        name = {BOT: "agent", PERSON: "ann"}.get(message["user"], "ben")
        lines += [f"**{name}**", "", *(f"> {line}".rstrip() for line in message["text"].split("\n")), ""]
    lines += ["The calls of Slack's Web API:", "", "| method | text | metadata |", "|---|---|---|"]
    for method, arguments in fake.calls:
        payload = arguments["metadata"]["event_payload"]
        text = " ".join(arguments["text"].split())
        shown = text if len(text) < 60 else text[:57] + "…"
        lines.append(f"| `{method}` | {shown} | part {payload['part']} of `{payload['request_id']}` |")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "slack-thread.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
