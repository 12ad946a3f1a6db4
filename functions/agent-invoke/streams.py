"""Telling readers the answer while the model writes it: numbered chunks in the database, written by one thread.

A chunk is a preview, never the truth: it may be lost (a full or restarting database) and then the reader waits for the
committed answer. So nothing here ever fails or delays a turn. session-sweep deletes old chunks.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from common.database import Database
from common.errors import ServiceError

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.08
"""The least time between two chunks of an answer."""

FIRST_SECONDS = 0.03
"""How long the first words wait: an answer that is whole by then needs no preview, and costs no statement."""

_READ_LIVE = frozenset({"web", "cli"})  # Slack and tools are sent the whole answer


class Stream:
    """The chunks of one turn's answer. Only the thread that asks the model calls it."""

    def __init__(self, streams: Streams, request_id: str, attempt: int) -> None:
        self._streams = streams
        self._identity = {"request_id": request_id, "attempt": attempt}
        self._begun = False
        self._written = 0
        self.text = ""
        self.taken_back = False
        self.next_at = 0.0

    def write(self, text: str) -> None:
        """Tell the reader `text`, soon: the first words after FIRST_SECONDS, what follows within BATCH_SECONDS."""
        self._streams.add(self, text if self._begun else text.lstrip())

    def take_back(self) -> None:
        """Tell the reader to forget what was written so far."""
        self._streams.take_back(self)

    def append(self, text: str) -> bool:
        """Add text to what is to be written; whether there is anything then. The caller holds the lock of `streams`."""
        self.text += text
        if text and not self._begun:
            self._begun = True
            self.next_at = max(self.next_at, time.monotonic() + FIRST_SECONDS)
        return self._ready()

    def forget(self) -> bool:
        """Drop what is to be written, and mark what was; whether there is anything to tell then."""
        self.text, self._begun = "", False
        self.taken_back = self._written > 0
        return self.taken_back

    def _ready(self) -> bool:
        return self.taken_back or bool(self.text.rstrip())

    def chunks(self) -> list[dict[str, object]]:
        """Take what is to be written. White space at the end waits: an answer has none there."""
        contents: list[str | None] = [None] if self.taken_back else []
        text = self.text.rstrip()
        if text:
            contents.append(text)
        self.text, self.taken_back = self.text[len(text) :], False
        found: list[dict[str, object]] = []
        for content in contents:
            self._written += 1
            found.append({**self._identity, "seq": self._written, "content": content})
        return found


class Streams:
    """Writes the chunks of all turns of this process, those that are due together in one statement."""

    def __init__(self, database: Database, *, enabled: bool) -> None:
        self._database = database
        self._enabled = enabled
        self._due: set[Stream] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._wakes_at: float | None = None  # when the writing thread looks next by itself

    def start(self) -> None:
        """Nothing to prepare: the first words start the thread."""

    def close(self) -> None:
        """Stop writing."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    @contextmanager
    def open(self, request_id: str, attempt: int, integration: str) -> Iterator[Stream | None]:
        """A stream for a turn, or None where nobody reads along. What is not written at its end never is: the commit
        that follows holds the whole answer."""
        if not self._enabled or integration not in _READ_LIVE:
            yield None
            return
        stream = Stream(self, request_id, attempt)
        try:
            yield stream
        finally:
            with self._changed:
                self._due.discard(stream)

    def add(self, stream: Stream, text: str) -> None:
        """Have `text` written in the next chunk of `stream`."""
        with self._changed:
            if stream.append(_storable(text)):
                self._schedule(stream)

    def take_back(self, stream: Stream) -> None:
        """Have the next chunk of `stream` say that those before it do not count."""
        with self._changed:
            self._due.discard(stream)
            if stream.forget():
                self._schedule(stream)

    def _schedule(self, stream: Stream) -> None:
        self._due.add(stream)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._write, name="streams", daemon=True)
            self._thread.start()
        if self._wakes_at is None or stream.next_at < self._wakes_at:
            self._changed.notify()

    def _write(self) -> None:
        while (chunks := self._next()) is not None:
            try:
                self._database.step("append_chunks", {"chunks": json.dumps(chunks)}, patience=1.0)
            except ServiceError:
                # Their readers see that a number is missing, and wait for the answer.
                log.warning("chunks of answers were not written", extra={"chunks": len(chunks)})

    def _next(self) -> list[dict[str, object]] | None:
        """Wait until chunks are due, and take them; None when there will be no more."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                due = [stream for stream in self._due if stream.next_at <= now]
                if due:
                    self._due.difference_update(due)
                    for stream in due:
                        stream.next_at = now + BATCH_SECONDS
                    return [chunk for stream in due for chunk in stream.chunks()]
                self._wakes_at = min((stream.next_at for stream in self._due), default=None)
                self._changed.wait(None if self._wakes_at is None else self._wakes_at - now)
            return None


def _storable(text: str) -> str:
    """The text without what PostgreSQL cannot store: NUL and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
