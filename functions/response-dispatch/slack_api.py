"""Slack's Web API as this function uses it: slack_sdk's client, what its errors mean, and what we left there."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.error import URLError

from channel import Refused
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.models.blocks import Block
from slack_sdk.web import SlackResponse

from common import settings, tracing
from common.errors import Unavailable

log = logging.getLogger(__name__)

# What Slack answers when it, or our configuration, may be better later (docs of chat.postMessage, "Errors").
_PASSING = {
    "ratelimited", "rate_limited", "message_limit_exceeded", "internal_error", "fatal_error", "service_unavailable",
    "request_timeout", "team_added_to_org", "not_authed", "invalid_auth", "account_inactive", "token_expired",
    "token_revoked", "missing_scope",
}  # fmt: skip
# What Slack answers when this app may not read there, although it may post.
_CANNOT_LOOK = {
    "missing_scope",
    "not_allowed_token_type",
    "no_permission",
    "access_denied",
    "not_in_channel",
    "thread_not_found",
}
# What chat.update answers for a message that is no longer there to be changed.
_NOT_THERE = {"message_not_found", "cant_update_message", "edit_window_closed"}
EVENT_TYPE = "self_service_agent_response"
PLACEHOLDER = -1  # the number of the message that the answer's first part replaces
_CLOCKS_APART = 60.0  # seconds that Slack's clock and ours may differ
_PAGES, _PAGE = 5, 200


class _Client(WebClient):
    """slack_sdk's client; each call is a span in the trace of what it is made for."""

    def api_call(self, api_method: str, **given: Any) -> SlackResponse:
        """Call one method of the Web API. Raises as the SDK's own does."""
        with tracing.posting(self.base_url, f"/{api_method}") as span:
            try:
                answer = super().api_call(api_method, **given)
            except SlackApiError as error:
                span.note(status=error.response.status_code, error=error.response.get("error"))  # Slack's code
                raise
            span.note(status=answer.status_code)
        return answer


class SlackApi:
    """Calls with SLACK_BOT_TOKEN; SLACK_API_URL (default Slack's own) is for stand-ins."""

    def __init__(self) -> None:
        token = settings.mounted("SLACK_BOT_TOKEN")
        base = settings.url("SLACK_API_URL", WebClient.BASE_URL) + "/"
        # No retries below us: a call that was cut off may have posted, so the next attempt looks first.
        self._client = _Client(token, base_url=base, timeout=10, retry_handlers=[]) if token else None

    @property
    def has_token(self) -> bool:
        """Whether there is a token to call with."""
        return self._client is not None

    def conversation(self, channel: str) -> str:
        """The conversation's id: for a user's id their direct message with us. Raises as the calls do."""
        if not channel.startswith(("U", "W")):
            return channel
        with _errors():
            return str(self._connected().conversations_open(users=[channel])["channel"]["id"])

    def post(
        self, channel: str, thread: str | None, text: str, request_id: str, part: int, blocks: Sequence[Block] | None = None
    ) -> str:
        """Post a message that carries the request's id and its number in the answer; its timestamp.

        Links are not unfurled: what a model writes must not make Slack fetch addresses. Raises Unavailable, Refused.
        """
        with _errors():
            posted = self._connected().chat_postMessage(
                channel=channel,
                thread_ts=thread,
                text=text,
                blocks=blocks,
                unfurl_links=False,
                unfurl_media=False,
                metadata=_metadata(request_id, part),
            )
        return str(posted["ts"])

    def update(
        self, channel: str, ts: str, text: str, request_id: str, part: int, blocks: Sequence[Block] | None = None
    ) -> bool:
        """Make a message of ours say something else; False when it is not there any more. Raises as `post` does."""
        with _errors():
            try:
                self._connected().chat_update(
                    channel=channel, ts=ts, text=text, blocks=blocks, metadata=_metadata(request_id, part)
                )
            except SlackApiError as error:
                if error.response.get("error") not in _NOT_THERE:
                    raise
                return False
        return True

    def delete(self, channel: str, ts: str) -> None:
        """Delete a message of ours, if it is there. Raises as `post` does."""
        with _errors():
            try:
                self._connected().chat_delete(channel=channel, ts=ts)
            except SlackApiError as error:
                if error.response.get("error") not in _NOT_THERE:
                    raise

    def posted(self, channel: str, thread: str | None, request_id: str, since: datetime) -> dict[int, str]:
        """What an earlier attempt left in the thread (or conversation) for this request: timestamps by number.

        Nothing when the app may not read there. Raises Unavailable, Refused.
        """
        there: dict[int, str] = {}
        client, cursor = self._connected(), None
        window: dict[str, Any] = {"oldest": f"{since.timestamp() - _CLOCKS_APART:.6f}", "limit": _PAGE}
        for _ in range(_PAGES):
            with _errors():
                try:
                    window |= {"channel": channel, "include_all_metadata": True, "cursor": cursor}
                    found = (
                        client.conversations_replies(ts=thread, **window)
                        if thread
                        else client.conversations_history(**window)
                    )
                except SlackApiError as error:
                    code = error.response.get("error")
                    if code not in _CANNOT_LOOK:
                        raise
                    log.warning("Slack does not let us look for an earlier message", extra={"code": code})
                    return there
            for message in found.get("messages") or ():
                payload: dict[str, Any] = (message.get("metadata") or {}).get("event_payload") or {}
                if payload.get("request_id") == request_id:
                    there[int(payload.get("part", 0))] = str(message["ts"])
            cursor = (found.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                break
        return there

    def _connected(self) -> WebClient:
        if self._client is None:
            raise Unavailable("There is no Slack token.")
        return self._client


def _metadata(request_id: str, part: int) -> dict[str, Any]:
    return {"event_type": EVENT_TYPE, "event_payload": {"request_id": request_id, "part": part}}


@contextmanager
def _errors() -> Iterator[None]:
    """Turn slack_sdk's errors into ours."""
    try:
        yield
    except SlackApiError as error:
        raise _meaning(error) from error
    except (SlackClientError, URLError, OSError) as error:
        raise Unavailable("Slack does not answer.") from error


def _meaning(error: SlackApiError) -> Unavailable | Refused:
    code = str(error.response.get("error", ""))
    status = error.response.status_code
    if status == 429 or status >= 500 or code in _PASSING:
        headers = {name.lower(): str(value) for name, value in error.response.headers.items()}
        wait = headers.get("retry-after", "")
        return Unavailable(
            f"Slack did not take the message now ({code or status}).",
            retry_after=float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else 1.0,
        )
    return Refused(f"Slack refused the message ({code or status}).")
