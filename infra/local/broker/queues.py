"""One queue per Trigger: bounded work in flight, and retries that wait outside of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from infra.local.broker.store import Delivery
from infra.local.broker.triggers import Trigger

# Past this backlog, or above this size, an event waits in the store instead of in memory.
_IN_MEMORY_BACKLOG = 1000
_IN_MEMORY_BYTES = 64 * 1024


class Queue:
    """The due deliveries of one Trigger: at most `limit` are tried at once, and no other Trigger waits.

    `attempt` tries one delivery. Its tasks are started in `tasks`, so that an error of ours ends the process
    instead of quietly stopping a queue.
    """

    def __init__(
        self,
        trigger: Trigger,
        limit: int,
        attempt: Callable[[Trigger, Delivery], Awaitable[None]],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._trigger = trigger
        self._limit = limit
        self._attempt = attempt
        self._tasks = tasks
        self._due: deque[Delivery] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._stopped = False

    def put(self, delivery: Delivery) -> None:
        """Take a delivery that is due now."""
        stored = delivery.stored
        if stored and (len(self._due) >= _IN_MEMORY_BACKLOG or len(stored.event.data) > _IN_MEMORY_BYTES):
            delivery.stored = None
        self._due.append(delivery)
        if len(self._workers) < self._limit and not self._stopped:
            worker = self._tasks.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    def put_later(self, delivery: Delivery) -> None:
        """Take a delivery that is due at its `due_at`; until then it holds no slot."""
        delay = delivery.due_at - time.time()
        if delay <= 0:
            self.put(delivery)
            return
        delivery.stored = None
        asyncio.get_running_loop().call_later(delay, self.put, delivery)

    async def _work(self) -> None:
        while self._due and not self._stopped:
            await self._attempt(self._trigger, self._due.popleft())

    def stop(self) -> set[asyncio.Task[None]]:
        """Start nothing more; return what is still in flight."""
        self._stopped = True
        return set(self._workers)
