"""One connection of the host's server, and the threads that work on its requests: waitress, with fewer wake-ups.

What costs a Python server under load is less its code than how often its threads wake each other: each system call gives
the interpreter's lock away. Here a response is one send, the thread that has answered wakes the main thread only when
that has something to do, and the queue of requests is one of C.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pydantic_core import to_json
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask

from common.problems import problem_document

log = logging.getLogger(__name__)

LOOKAHEAD = 1
"""Requests of a connection that are read while one is worked on. With one, its socket stays in the poll all the time."""

PATIENCE = 0.001
"""Seconds that a request waits for one of the threads that are awake."""

_TITLES = {
    400: "Malformed request",
    413: "Content too large",
    431: "Headers too large",
    501: "Not implemented",
}
_this_thread = threading.local()


class _Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    """A request that the app answers; head and first part of the body go out together."""

    channel: Channel

    def write(self, data: bytes) -> None:
        """Send a part of the answer."""
        if not self.wrote_header and self.channel.server.draining:
            super().set_close_on_finish()  # what this client sends next is for another pod
        self.channel.hold = not self.wrote_header and bool(data) and self.has_body and self.content_length != 0
        super().write(data)

    def set_close_on_finish(self) -> None:
        """Close after the answer: not for want of a Content-Length where none belongs, as after 204 (RFC 9110, 8.6)."""
        asked = self.request.headers.get("CONNECTION", "").lower()
        if self.has_body or self.version != "1.1" or asked == "close":
            super().set_close_on_finish()


class _ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """What waitress itself refuses (broken HTTP, a giant body), in the words of the rest of the contract."""

    def execute(self) -> None:
        status = int(self.request.error.code)
        title = _TITLES.get(status, "Internal error")
        body = to_json(problem_document(status, title, "The HTTP request cannot be read."))
        self.status = f"{status} {self.request.error.reason}"
        self.response_headers.append(("Content-Type", "application/problem+json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection."""

    task_class = _Task
    error_task_class = _ProblemTask
    last_activity: float
    hold = False
    _held = b""
    _was_full = False

    def write_soon(self, data: Any) -> int:
        """Send now, but for what `hold` is set for: that goes out with what comes next."""
        if self.hold:
            self.hold, self._held = False, data
            return len(data)
        if self._held:
            data, self._held = self._held + data, b""
        return int(super().write_soon(data))

    def readable(self) -> bool:
        """Whether the main thread should look for more, also while a request is worked on: another one, or the end."""
        full = len(self.requests) > LOOKAHEAD or self.total_outbufs_len  # who takes no answers is asked nothing more
        return not (self.will_close or self.close_when_flushed or full)

    def handle_read(self) -> None:
        """Read; a request that is not whole yet does not count as activity: who sends a byte a minute is closed too."""
        began = self.last_activity if self.request is not None else None
        super().handle_read()
        if began is not None and self.request is not None:
            self.last_activity = began

    def service(self) -> None:
        """Work on the first of `requests`."""
        _this_thread.channel = self
        self._was_full = len(self.requests) > LOOKAHEAD
        try:
            super().service()
        finally:
            _this_thread.channel = None

    def waits_for_main(self) -> bool:
        """Whether only the main thread can go on with this connection: to send the rest, to close it, to read more of it."""
        return bool(self._was_full or self.requests or self.total_outbufs_len or self.will_close or self.close_when_flushed)


def wake_for(trigger: Any) -> Callable[[], None]:
    """The server's `pull_trigger`: wakes the main thread, unless a connection's thread has nothing for it to do."""

    def wake() -> None:
        channel: Channel | None = getattr(_this_thread, "channel", None)
        if channel is None or channel.waits_for_main():
            trigger.pull_trigger()

    return wake


class Threads:
    """The threads that work on requests: waitress' task dispatcher. `few` of them work while that is enough.

    Threads that run Python at the same time hinder each other: each system call gives the lock away, and waits to have it
    back. So a request waits a millisecond for one of the few that are awake, and only then is one more woken, up to `count`.
    Where requests wait for something else, a database or an answer, `few` is all of them.
    """

    def __init__(self, count: int, few: int) -> None:
        self._count = count
        self._few = few
        self._tasks: deque[Channel] = deque()
        self._first: Channel | None = None  # of the tasks, when they were last looked at
        self._first_since = 0.0
        self._awake = 0
        self._at_work = [False] * count
        self._lock = threading.Lock()
        self._idle: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"request-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def add_task(self, task: Channel) -> None:
        """Have a thread work on it."""
        self._tasks.append(task)
        if self._awake < self._few:
            self._wake()

    @property
    def waiting(self) -> int:
        """How many requests wait for a thread."""
        return len(self._tasks)

    @property
    def serving(self) -> int:
        """How many requests are worked on, also those whose clients have gone."""
        return sum(self._at_work)

    def look(self) -> bool:
        """Wake one more thread if the first request has waited for long enough; whether to look again in a moment.

        Only the main thread calls it.
        """
        try:
            first = self._tasks[0] if self._awake < self._count else None
        except IndexError:
            first = None
        if first is None or first is not self._first:
            self._first, self._first_since = first, time.monotonic()
        elif time.monotonic() - self._first_since >= PATIENCE:
            self._first = None
            self._wake()
        return first is not None

    def shutdown(self, timeout: float) -> None:
        """End the threads, and wait for them at most `timeout` seconds in all."""
        for _ in self._threads:
            self._idle.put(False)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _wake(self) -> None:
        with self._lock:
            if self._awake >= self._count:
                return
            self._awake += 1
        self._idle.put(True)

    def _work(self, number: int) -> None:
        while self._idle.get():
            while (task := self._next(number)) is not None:
                try:
                    task.service()
                except BaseException:  # waitress answers what an app raises; whatever else goes wrong must not cost a thread
                    log.exception("a connection failed")
                self._at_work[number] = False

    def _next(self, number: int) -> Channel | None:
        """The next task, or None when this thread is no longer awake."""
        while True:
            self._at_work[number] = True  # before it leaves the queue: what is drained is never seen in neither place
            try:
                return self._tasks.popleft()
            except IndexError:
                self._at_work[number] = False
            with self._lock:
                self._awake -= 1
                if not self._tasks:
                    return None
                self._awake += 1  # it came after the look above, and found this thread awake
