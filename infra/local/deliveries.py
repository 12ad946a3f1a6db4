"""What was delivered to the stand-ins for Slack and the tools' webhooks, kept in STATE_DIR over restarts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.local.failure import PlatformError

_SECRET_HEADERS = frozenset({"authorization", "cookie"})


class Deliveries:
    """The deliveries, oldest first, in memory and as lines of the file `path`.

    Raises PlatformError when the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.entries: list[dict[str, Any]] = []
        whole = 0
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):  # torn by a crash: its sender got no answer, and will send it again
                    break
                self.entries.append(_entry(path, line))
                whole += len(line)
        self._file = path.open("ab", buffering=0)
        self._file.truncate(whole)

    def add(
        self,
        channel: str,
        request_id: str | None,
        headers: Mapping[str, str],
        body: Any,
        reference: str | None = None,
    ) -> None:
        """Record one delivery. Header names are kept in lower case, credentials are not kept.

        `reference` is what the channel calls it (Slack's ts).
        """
        entry = {
            "channel": channel,
            "request_id": request_id,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "headers": {
                name.lower(): "(not kept)" if name.lower() in _SECRET_HEADERS else value for name, value in headers.items()
            },
            "body": body,
            "reference": reference,
        }
        self._file.write(json.dumps(entry).encode() + b"\n")
        self.entries.append(entry)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _entry(path: Path, line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or not {"channel", "request_id", "body"} <= entry.keys():
        raise PlatformError(f"{path} holds what is no delivery: put the file aside")
    return entry
