"""The "thinking" sign of a request from Slack: a message in its thread while the agent works, which the answer replaces.

It is a courtesy: nothing waits for it but the answer, and that not for long. SLACK_THINKING=false leaves it out.
"""

from __future__ import annotations

import logging
import threading

from channel import Refused
from slack_api import PLACEHOLDER, SlackApi

from common import events, faults, settings
from common.database import Database
from common.errors import ServiceError

log = logging.getLogger(__name__)

THINKING = ":hourglass_flowing_sand: _Thinking…_"
POSTING_SECONDS = 25.0  # longer than looking and posting take; so long an answer waits for a sign whose process has died


class Placeholder:
    """Posts a sign at most once per request, and none when the answer is already there.

    At most `limit` are being posted at once, and no more are begun: a slow Slack must not take the answers' threads.
    """

    def __init__(self, api: SlackApi, database: Database, limit: int) -> None:
        self._api = api
        self._database = database
        self._wanted = settings.flag("SLACK_THINKING", default=True) and api.has_token
        self._free = threading.BoundedSemaphore(limit)

    def show(self, ready: events.SessionReady) -> None:
        """Post the sign of a request that came from Slack itself.

        Raises Unavailable when the database does not answer. What Slack answers is logged: no sign is no failure.
        """
        request = ready.request
        if not self._wanted or request.integration_type != "slack" or "slack_event" not in request.metadata:
            return
        if not self._free.acquire(blocking=False):
            return
        try:
            begun = self._database.step("begin_placeholder", {"request_id": request.request_id, "lease": POSTING_SECONDS})
            if begun["outcome"] == "post":
                recorded = events.NormalizedRequest.model_validate(begun["request"])  # not what the event says
                self._post(recorded, look_first=begun["look_first"])
        finally:
            self._free.release()

    def _post(self, request: events.NormalizedRequest, *, look_first: bool) -> None:
        done = {"request_id": request.request_id, "channel": None, "ts": None, "nothing_there": False}
        try:
            channel = self._api.conversation(request.channel_id or "")
            ts = None
            if look_first:
                there = self._api.posted(channel, request.thread_id, request.request_id, request.accepted_at)
                ts = there.get(PLACEHOLDER)
            faults.point("placeholder.before")
            ts = ts or self._api.post(channel, request.thread_id, THINKING, request.request_id, PLACEHOLDER)
            faults.point("placeholder.after")
        except ServiceError as error:
            log.warning("no sign was posted", extra={"detail": error.detail})
            # Only a refusal says for certain that nothing is there.
            self._database.step("finish_placeholder", {**done, "nothing_there": isinstance(error, Refused)})
            return
        kept = self._database.step("finish_placeholder", {**done, "channel": channel, "ts": ts})
        if kept == "late":
            self._api.delete(channel, ts)
