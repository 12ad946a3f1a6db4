"""Who may read what: a person their own, a tool what it asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Request

from common import auth
from common.errors import Forbidden
from common.tool_keys import ToolKeys


@dataclass(frozen=True)
class Reader:
    """A verified reader: a person, a tool, or (AUTH_MODE=none, nobody named) anyone."""

    user_id: str | None = None
    tool_id: str | None = None

    def require_owner(self, row: Mapping[str, Any]) -> None:
        """Raises Forbidden when the request or session is somebody else's."""
        if self.tool_id is not None:
            owner = row["integration_type"] == "tool" and row["integration_key"] == self.tool_id
        else:
            owner = self.user_id is None or row["user_id"] == self.user_id
        if not owner:
            raise Forbidden("It is somebody else's.")


class Readers:
    """Verifies readers: a tool by its API key, a person as ingest-web and ingest-cli do."""

    def __init__(self) -> None:
        self._callers = auth.authenticator()
        self._keys = ToolKeys()

    def identify(self, request: Request) -> Reader:
        """The request's reader.

        Raises Unauthenticated when that cannot be verified.
        """
        if "X-API-Key" in request.headers:
            return Reader(tool_id=self._keys.identify(request))
        return Reader(user_id=self._callers.identify(request).user_id)
