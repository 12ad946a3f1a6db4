"""Answers into Slack threads: mrkdwn, in as many messages as the length needs, the first in place of the "thinking" sign."""

from __future__ import annotations

from channel import Answer, Refused
from mrkdwn import to_mrkdwn
from parts import split
from slack_api import PLACEHOLDER, SlackApi

EMPTY = "The assistant has nothing to say to this."


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
            if number == 0 and sign and self._api.update(channel, sign, text, answer.request_id, number):
                there[number] = sign
            else:
                there[number] = self._api.post(channel, answer.thread_id, text, answer.request_id, number)
        return there[0]
