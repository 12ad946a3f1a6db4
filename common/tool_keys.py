"""API keys of tools: hashes only, several per tool so that keys rotate, each bound to one tool_id."""

from __future__ import annotations

import hashlib
import hmac
import json
import re

from flask import Request

from common import settings
from common.errors import SettingError, Unauthenticated

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


class ToolKeys:
    """TOOL_KEYS: `{"<tool_id>": ["sha256:<hex of the key's SHA-256>", …]}`, as JSON or the path of a mounted file with it.

    A plain hash is enough because keys are random and long. Without TOOL_KEYS every key is refused. Raises SettingError
    when it is not of that form.
    """

    def __init__(self) -> None:
        raw = settings.mounted("TOOL_KEYS")
        try:
            keys = json.loads(raw) if raw else {}
            self._hashes = [(tool_id, _checked(one).encode()) for tool_id, several in keys.items() for one in several]
        except (ValueError, AttributeError, TypeError):
            raise SettingError('TOOL_KEYS must be JSON: {"<tool_id>": ["sha256:<64 hex digits>", …]}') from None

    def identify(self, request: Request) -> str:
        """The tool whose key is in X-API-Key.

        Every known hash is compared, each in constant time. Raises Unauthenticated when there is no key or an unknown one.
        """
        given = request.headers.get("X-API-Key", "")
        digest = f"sha256:{hashlib.sha256(given.encode('utf-8', 'surrogateescape')).hexdigest()}".encode()
        found: str | None = None
        for tool_id, known in self._hashes:
            if hmac.compare_digest(digest, known):
                found = tool_id
        if not given or found is None:
            raise Unauthenticated("A valid API key is needed in X-API-Key.")
        return found


def _checked(value: str) -> str:
    if not _HASH.fullmatch(value):
        raise ValueError(value)
    return value
