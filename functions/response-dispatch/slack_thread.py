"""Answers into Slack threads: mrkdwn, in as many messages as the length needs, the first in place of the "thinking" sign."""

from __future__ import annotations

from channel import Answer, Refused
from mrkdwn import to_mrkdwn
from parts import split
from slack_api import PLACEHOLDER, SlackApi
from slack_sdk.models.blocks import ActionsBlock, Block, ButtonElement, MarkdownTextObject, SectionBlock

EMPTY = "The assistant has nothing to say to this."
PASSING = {"not_processed", "queue_full"}  # error codes of requests that may be answered when they are asked again
MAX_VALUE = 2000  # characters of a button's value (Block Kit, "Button element")


class Slack:
    """Posts through Slack's Web API."""

    name = "slack"
    begin = "begin_slack_delivery"

    def __init__(self, api: SlackApi) -> None:
        self._api = api

    def send(self, answer: Answer) -> str | None:
        """Post the answer to its thread; the first message's timestamp.

        When an earlier attempt may have left something the thread is read first: what is there is not posted again.
        """
        if answer.channel_id is None:
            raise Refused("The request came from no Slack channel.")
        channel = answer.placeholder_channel or self._api.conversation(answer.channel_id)
        there: dict[int, str] = {}
        if answer.look_first:
            there = self._api.posted(channel, answer.thread_id, answer.request_id, answer.accepted_at)
        sign = answer.placeholder_ts or there.get(PLACEHOLDER)
        for number, text in enumerate(split(to_mrkdwn(answer.content) or EMPTY)):
            if number in there:
                continue
            blocks = ask_again(text, answer) if number == 0 else None
            if number == 0 and sign and self._api.update(channel, sign, text, answer.request_id, number, blocks):
                there[number] = sign
            else:
                there[number] = self._api.post(channel, answer.thread_id, text, answer.request_id, number, blocks)
        return there[0]


def ask_again(text: str, answer: Answer) -> list[Block] | None:
    """A failure that may pass, as blocks: its sentence, and a button that asks the same question."""
    if answer.error is None or answer.error["code"] not in PASSING or not 0 < len(answer.question) <= MAX_VALUE:
        return None
    button = ButtonElement(text="Ask again", action_id="ask_again", value=answer.question)
    return [SectionBlock(text=MarkdownTextObject(text=text)), ActionsBlock(elements=[button])]
