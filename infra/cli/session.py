"""What the commands do: ask in a conversation, and read what was asked."""

from __future__ import annotations

import uuid

from infra.cli import show
from infra.cli.api import Api, Document
from infra.cli.asking import FINISHED, Asking
from infra.cli.failures import ANSWERED, FAILED, NO_ANSWER, Unknown, Wrong
from infra.cli.progress import Progress, progress
from infra.cli.settings import Settings, state_directory
from infra.cli.state import State

_RECORDED_SECONDS = 5.0


class Conversation:
    """The conversation `name`, or the current one, or (`new`) another one, at a server."""

    def __init__(self, settings: Settings, name: str | None, new: bool) -> None:
        if name is not None and (new or not name.strip()):
            raise Wrong("--session takes a name, and not together with --new")
        if settings.warning:
            show.complain(settings.warning)
        self._json = settings.json
        self._api = Api(settings, show.note)
        self._state = State(state_directory(), settings.server, settings.user)
        self._asking = Asking(self._api, settings.user, self._state.accepted)
        self._name = name or (self._state.begin() if new else self._state.current())

    def begin(self) -> None:
        """Go on in another conversation."""
        self._name = self._state.begin()

    def ask(self, content: str, *, timeout: float, wait: bool, key: str | None, command: str) -> int:
        """Ask, and show the answer; the exit code."""
        request_id = self._asking.send(content, self._name, command, key)
        if not wait:
            accepted = {"request_id": request_id, "status": "accepted", "status_url": f"/api/v1/requests/{request_id}"}
            show.document(accepted) if self._json else show.answer(request_id)
            return ANSWERED
        found = self._asking.wait(request_id, timeout, self._progress)
        return self._show(found)

    def status(self, request_id: str | None, seconds: float) -> int:
        """Show a request; the exit code says whether it was answered."""
        request_id = self._known(request_id)
        found = self._api.request(request_id)
        if seconds and found["status"] not in FINISHED:
            found = self._asking.wait(request_id, seconds, self._progress)
        if not self._json:
            show.note(show.outcome(found)) if found["status"] in FINISHED else show.answer(show.outcome(found))
        return self._show(found, with_note=False)

    def history(self, session: str | None = None) -> None:
        """Show a conversation: by its session's id, by its name, or this one."""
        found = self._api.session(self._session_id(session))
        show.document(found) if self._json else show.history(found)

    def trace(self, request_id: str | None) -> Document:
        """A request's way through the functions."""
        return self._api.trace(self._known(request_id))

    def whole_trace(self, request_id: str | None) -> Document:
        """The same with what was asked and answered, and by whom."""
        way = self.trace(request_id)
        request = self._api.request(way["request_id"])
        session = self._api.session(way["session_id"]) if way["session_id"] else {"user_id": None, "messages": []}
        asked = (one["content"] for one in session["messages"] if one["request_id"] == way["request_id"])
        return {
            **request,
            **way,
            "user_id": session["user_id"],
            "question": next(asked, None),
            "answer": (request["response"] or {}).get("content"),
        }

    def _show(self, found: Document, *, with_note: bool = True) -> int:
        if name := self._state.conversation_of(found["request_id"]):
            self._state.answered(name, found["session_id"])
        if self._json:
            show.document(found)
        elif found["status"] == "completed":
            show.answer(found["response"]["content"])
            if with_note:
                show.note(f"{show.outcome(found)} · {found['request_id']}")
        elif found["status"] == "failed":
            show.complain(found["error"]["message"])
        return {"completed": ANSWERED, "failed": FAILED}.get(found["status"], NO_ANSWER)

    def _progress(self) -> Progress:
        return progress(quiet=self._json)

    def _known(self, request_id: str | None) -> str:
        request_id = request_id or self._state.last_request()
        if request_id is None:
            raise Unknown("nothing was asked from here yet")
        return request_id

    def _session_id(self, session: str | None) -> str:
        if session is not None:
            try:
                return str(uuid.UUID(session))
            except ValueError:
                pass
        name = session or self._name
        found, last = self._state.session_id(name), self._state.last_request()
        if found is None and last is not None and self._state.conversation_of(last) == name:
            found = self._api.request(last, _RECORDED_SECONDS)["session_id"]  # asked, and its answer not seen yet
        if found is None:
            raise Unknown(f"nothing was asked yet in the conversation {name!r}")
        return found
