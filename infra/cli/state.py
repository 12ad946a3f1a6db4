"""What the command remembers between two calls, for each server and user: the current conversation, the last request."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

_KEPT_NAMES = 50  # conversations whose session's id is remembered, the newest
FIRST = "default"


class State:
    """Reads `state.json` of `directory` and writes it anew at every change. Nothing in it is a secret or was said."""

    def __init__(self, directory: Path, server: str, user: str) -> None:
        self._path = directory / "state.json"
        self._profile = f"{server} {user}"

    def current(self) -> str:
        """The name of the conversation that `agent ask` continues."""
        return str(self._mine().get("current", FIRST))

    def begin(self) -> str:
        """A new conversation, the current one from now on; its name."""
        name = f"cli-{uuid.uuid4().hex[:12]}"
        self._change(current=name)
        return name

    def session_id(self, name: str) -> str | None:
        """The id of the session that a conversation was seen to have."""
        found: str | None = self._mine().get("sessions", {}).get(name)
        return found

    def last_request(self) -> str | None:
        """The id of the last request that was accepted."""
        found: str | None = self._mine().get("last_request")
        return found

    def accepted(self, request_id: str, name: str) -> None:
        """Remember a request of a conversation."""
        self._change(last_request=request_id, last_conversation=name)

    def conversation_of(self, request_id: str) -> str | None:
        """The conversation of a request, if it is the last one."""
        mine = self._mine()
        found: str | None = mine.get("last_conversation") if mine.get("last_request") == request_id else None
        return found

    def answered(self, name: str, session_id: str | None) -> None:
        """Remember which session a conversation has."""
        if session_id is not None and session_id != self.session_id(name):
            sessions = {**self._mine().get("sessions", {})}
            sessions.pop(name, None)  # so that it is the newest
            self._change(sessions=dict([*sessions.items(), (name, session_id)][-_KEPT_NAMES:]))

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def _mine(self) -> dict[str, Any]:
        mine = self._read().get(self._profile)
        return mine if isinstance(mine, dict) else {}

    def _change(self, **values: Any) -> None:
        document = self._read()
        document[self._profile] = {**self._mine(), **values}
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False, encoding="utf-8") as file:
                json.dump(document, file, indent=1)
            os.replace(file.name, self._path)  # noqa: PTH105 - whole or not at all
        except OSError:  # a home that cannot be written to: nothing is remembered, everything else works
            return
