"""Ask and wait for the answer: one request whatever happens to the connection, and its answer once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from infra.cli.api import LONG_POLL, Api, Document
from infra.cli.failures import Interrupted, NotYet, Unknown, Unreachable
from infra.cli.progress import Progress

FINISHED = ("completed", "failed")
_PAUSE = (
    0.5  # before asking again after an answer that came too early: a server with too many waiting says the state at once
)
_LOST_SECONDS = 20.0  # how long a server that was reached may be away before the command gives up


class Asking:
    """Asks as `user`. `accepted` is told the request's id and conversation as soon as there is one."""

    def __init__(self, api: Api, user: str, accepted: Callable[[str, str], None]) -> None:
        self._api = api
        self._user = user
        self._accepted = accepted

    def send(self, content: str, conversation: str, command: str, key: str | None = None) -> str:
        """Send a question of a conversation; the request's id. `command` is the subcommand, which the agent may know.

        Raises what Api.accept raises; Interrupted when the person does not wait for the acceptance.
        """
        body: dict[str, Any] = {
            "user_id": self._user,
            "content": content,
            "cli_session_id": conversation,
            "command_context": {"command": "agent", "args": [command]},
        }
        try:
            request_id = self._api.accept(body, key or f"cli-{uuid.uuid4()}")
        except KeyboardInterrupt:
            raise Interrupted("stopped; the question may have been accepted") from None
        self._accepted(request_id, conversation)
        return request_id

    def wait(self, request_id: str, seconds: float, show: Callable[[], Progress]) -> Document:
        """The finished request; `show` makes what is seen meanwhile.

        Raises NotYet when it is not finished after `seconds`, Interrupted at Ctrl-C: in both cases the work goes on.
        """
        deadline = time.monotonic() + seconds
        try:
            with show() as progress:
                found = self._streamed(request_id, deadline, progress) if progress.preview else None
                return found or self._polled(request_id, deadline)
        except KeyboardInterrupt:
            raise Interrupted(_later("not waiting any more", request_id), request_id=request_id) from None

    def _streamed(self, request_id: str, deadline: float, progress: Progress) -> Document | None:
        """The finished request, its pieces shown as they come; None when the stream cannot be had."""
        last_id = None
        lost_since = None
        while time.monotonic() < deadline:
            began = time.monotonic()
            try:
                for event in self._api.events(request_id, last_id, deadline - began):
                    last_id, lost_since = event.id or last_id, None
                    if event.name == "chunk":
                        progress.add(str(event.data.get("content", "")))
                    elif event.name == "reset":
                        progress.reset()
                    elif event.data.get("status") in FINISHED:
                        return dict(event.data)
                    if time.monotonic() >= deadline:
                        break
            except Unknown:  # not recorded yet
                pass
            except Unreachable:
                lost_since = lost_since or began
                if time.monotonic() - lost_since > _LOST_SECONDS:
                    return None  # the other way says what is wrong
            _breathe(began, deadline)
        return None

    def _polled(self, request_id: str, deadline: float) -> Document:
        while True:
            began = time.monotonic()
            try:
                found = self._api.request(request_id, min(LONG_POLL, deadline - began))
                if found["status"] in FINISHED:
                    return found
            except Unknown:
                if began >= deadline:
                    raise
            if time.monotonic() >= deadline:
                raise NotYet(_later("no answer yet", request_id), request_id=request_id)
            _breathe(began, deadline)


def _breathe(began: float, deadline: float) -> None:
    """Do not ask again within half a second of the last time."""
    now = time.monotonic()
    time.sleep(max(0.0, min(began + _PAUSE, deadline) - now))


def _later(what: str, request_id: str) -> str:
    return f"{what}; the agent goes on. Fetch the answer: agent status {request_id} --wait 60"
