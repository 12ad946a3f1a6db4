"""Which requests moved last, for whoever watches: a number that grows, and the newest requests by it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

KEPT = 1000  # requests; who asks for what is older looks in the traces


class Changes:
    """Remembers the order in which requests last moved. `version` grows by one with each move.

    `known` are requests of an earlier broker on the same store, oldest first.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self.version = 0
        self._moved: OrderedDict[str, int] = OrderedDict()  # in the order of their versions
        for request_id in known:
            self.note(request_id)

    def note(self, request_id: str | None) -> None:
        """A request moved; None is an event that belongs to none."""
        if request_id is None:
            return
        self.version += 1
        self._moved[request_id] = self.version
        self._moved.move_to_end(request_id)
        if len(self._moved) > KEPT:
            self._moved.popitem(last=False)

    def after(self, version: int, limit: int) -> list[str]:
        """The requests that moved after `version`, newest first, at most `limit`."""
        found: list[str] = []
        for request_id in reversed(self._moved):
            if self._moved[request_id] <= version or len(found) == limit:
                break
            found.append(request_id)
        return found
