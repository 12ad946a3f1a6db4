"""Answers into Slack threads, through slack_sdk's WebClient."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

from channel import Answer, Refused
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from common import settings
from common.errors import Unavailable

# What Slack answers when it, or our configuration, may be better later (docs of chat.postMessage, "Errors").
_PASSING = {
    "ratelimited", "rate_limited", "message_limit_exceeded", "internal_error", "fatal_error", "service_unavailable",
    "request_timeout", "team_added_to_org", "not_authed", "invalid_auth", "account_inactive", "token_expired",
    "token_revoked", "missing_scope",
}  # fmt: skip
MAX_CHARS = 3900  # Slack advises at most 4,000 characters a message
_EVENT_TYPE = "self_service_agent_response"


class Slack:
    """Posts with SLACK_BOT_TOKEN; SLACK_API_URL (default Slack's own) is for stand-ins."""

    name = "slack"

    def __init__(self) -> None:
        token = settings.mounted("SLACK_BOT_TOKEN")
        base = settings.url("SLACK_API_URL", WebClient.BASE_URL) + "/"
        self._client = WebClient(token, base_url=base, timeout=10) if token else None

    def send(self, answer: Answer) -> str | None:
        """Post the answer to its thread, in as many messages as its length needs; the first one's timestamp.

        After an earlier attempt the thread is read first: parts that are there are not posted again.
        """
        if self._client is None:
            raise Unavailable("There is no Slack token.")
        if answer.channel_id is None:
            raise Refused("The request came from no Slack channel.")
        try:
            there = self._already_posted(self._client, answer) if answer.attempt > 1 else {}
            for number, part in enumerate(split(answer.content)):
                if number not in there:
                    posted = self._client.chat_postMessage(
                        channel=answer.channel_id,
                        thread_ts=answer.thread_id,
                        text=part,
                        metadata={
                            "event_type": _EVENT_TYPE,
                            "event_payload": {"request_id": answer.request_id, "part": number},
                        },
                    )
                    there[number] = str(posted["ts"])
        except SlackApiError as error:
            raise _meaning(error) from error
        except (SlackClientError, URLError, OSError) as error:
            raise Unavailable("Slack does not answer.") from error
        return there[0]

    @staticmethod
    def _already_posted(client: WebClient, answer: Answer) -> dict[int, str]:
        """The parts of this answer that an earlier attempt left in the thread (or channel), by number."""
        channel = answer.channel_id or ""
        if answer.thread_id:
            found = client.conversations_replies(channel=channel, ts=answer.thread_id, include_all_metadata=True, limit=200)
        else:
            found = client.conversations_history(channel=channel, include_all_metadata=True, limit=100)
        there: dict[int, str] = {}
        for message in found.get("messages") or ():
            payload: dict[str, Any] = (message.get("metadata") or {}).get("event_payload") or {}
            if payload.get("request_id") == answer.request_id:
                there[int(payload.get("part", 0))] = str(message["ts"])
        return there


def split(text: str) -> list[str]:
    """The text in parts of at most MAX_CHARS, cut at the last line break or space before that."""
    parts = []
    while len(text) > MAX_CHARS:
        cut = max(text.rfind("\n", 0, MAX_CHARS), text.rfind(" ", 0, MAX_CHARS))
        cut = cut if cut > MAX_CHARS // 2 else MAX_CHARS
        parts.append(text[:cut])
        text = text[cut:].lstrip("\n ")
    return [*parts, text]


def _meaning(error: SlackApiError) -> Unavailable | Refused:
    code = str(error.response.get("error", ""))
    status = error.response.status_code
    if status == 429 or status >= 500 or code in _PASSING:
        headers = {name.lower(): str(value) for name, value in error.response.headers.items()}
        wait = headers.get("retry-after", "")
        return Unavailable(
            f"Slack did not take the message now ({code or status}).",
            retry_after=float(wait) if wait.isdigit() else 1.0,
        )
    return Refused(f"Slack refused the message ({code or status}).")
