"""What the open pages are told, as it happens: one look at broker and functions for all of them, none while none is open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import psycopg

from infra.local.page import numbers
from infra.local.page.letters import Letters
from infra.local.topology import Function

Change = dict[str, Any]

_EVERY = 0.5  # seconds between two looks
_FUNCTIONS_EVERY = 2.0  # seconds between two looks at every function
_LETTERS_EVERY = 60.0  # and at the dead letters, when nothing says that there are new ones
_KEPT = 300  # requests that a new page is shown
_BACKLOG = 200  # changes that a page may lag behind before it has to begin anew
_QUIET = 15.0  # seconds after which a comment shows that the connection lives
_PATIENCE = aiohttp.ClientTimeout(total=2.0)


@dataclass(frozen=True, slots=True)
class Eyes:
    """What is looked at: `describe` gives the document of GET /_platform, `changes_url` is the broker's for changes."""

    describe: Callable[[], Awaitable[Mapping[str, Any]]]
    changes_url: str
    functions: Sequence[Function]
    urls: Mapping[str, str]


class Watch:
    """Looks as long as somebody watches."""

    def __init__(self, eyes: Eyes, letters: Letters, client: aiohttp.ClientSession) -> None:
        self._eyes = eyes
        self._letters = letters
        self._client = client
        self._watchers: set[asyncio.Queue[Change | None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._known: Change = {}
        self._requests: dict[str, Change] = {}  # the newest last
        self._version = 0
        self._started_at = ""
        self._functions_due = self._letters_due = 0.0  # by the clock of the event loop
        self._closed = False

    async def follow(self, request_id: str | None = None) -> AsyncGenerator[bytes, None]:
        """Server-sent events: first everything (`reset`), then what changed; of one request if `request_id` is given."""
        if self._closed:
            return
        queue: asyncio.Queue[Change | None] = asyncio.Queue(_BACKLOG)
        self._watchers.add(queue)  # before everything is told: a change may come twice, none is left out
        self._functions_due = self._letters_due = 0.0  # who comes sees what is, not what was a minute ago
        try:
            if self._looking is None:
                await self._look()
            if self._looking is None:  # nobody else began meanwhile
                self._looking = asyncio.create_task(self._keep_looking())
                self._looking.add_done_callback(self._looked)
            yield _event({**self._known, "requests": self._newest(), "reset": True}, request_id)
            while True:
                try:
                    change = await asyncio.wait_for(queue.get(), _QUIET)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if change is None:
                    return
                if told := _event(change, request_id):
                    yield told
        finally:
            self._watchers.discard(queue)
            if not self._watchers and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def letters_changed(self) -> None:
        """A dead letter was replayed: look at them again."""
        self._letters_due = 0.0

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        for queue in self._watchers:
            _put(queue, None)

    def _looked(self, task: asyncio.Task[None]) -> None:
        """End the streams should the looking fail: pages that come back begin anew."""
        if task is self._looking:
            self._looking = None
            for queue in self._watchers:
                _put(queue, None)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            change = await self._look()
            if not change:
                continue
            for queue in self._watchers:
                _put(queue, change)

    async def _look(self) -> Change:
        """Look once; what is new."""
        now = asyncio.get_running_loop().time()
        seen: Change = {}
        requests = await self._look_at_broker(seen)
        if now >= self._functions_due:
            self._functions_due = now + _FUNCTIONS_EVERY
            await self._look_at_functions(seen)
        if now >= self._letters_due:
            self._letters_due = now + _LETTERS_EVERY
            await self._look_at_letters(seen)
        change = _news(self._known, seen)
        if requests:
            change["requests"] = requests
        return change

    async def _look_at_broker(self, seen: Change) -> list[Change]:
        try:
            async with self._client.get(f"{self._eyes.changes_url}?after={self._version}", timeout=_PATIENCE) as answer:
                found = await answer.json()
        except (aiohttp.ClientError, TimeoutError, ValueError):
            seen["broker"] = "away"
            return []
        if found["started_at"] != self._started_at:  # another broker: it counts anew
            is_first, self._started_at, self._version = not self._started_at, found["started_at"], 0
            if not is_first:
                return await self._look_at_broker(seen)
        self._version = found["version"]
        counted = numbers.from_broker(found, self._eyes.functions)
        # The dead-letter sink is the one Trigger that has its function's own name: what it delivered is a dead letter more.
        sink = {one.name: counted.get(f"trigger:{one.name}") for one in self._eyes.functions}
        if sink != self._known.get("sink"):
            self._letters_due = 0.0
        seen |= {"broker": "there", "since": found["started_at"], "sink": sink, "numbers": counted}
        requests: list[Change] = found["requests"]
        for one in reversed(requests):
            self._requests.pop(one["request_id"], None)
            self._requests[one["request_id"]] = one
        while len(self._requests) > _KEPT:
            del self._requests[next(iter(self._requests))]
        return requests

    async def _look_at_functions(self, seen: Change) -> None:
        described = await self._eyes.describe()
        counted = await numbers.from_functions(self._client, self._eyes.functions, self._eyes.urls)
        seen["functions"] = described["functions"]
        seen["parts"] = {name: part.get("pid") for name, part in described.items() if name != "functions"}
        seen["numbers"] = {**seen.get("numbers", {}), **counted}

    async def _look_at_letters(self, seen: Change) -> None:
        try:
            seen["dead_letters"] = await self._letters.newest()
        except psycopg.Error:
            seen["database"] = "away"
            self._letters_due = 0.0
        else:
            seen["database"] = "there"

    def _newest(self) -> list[Change]:
        return list(reversed(self._requests.values()))


def _news(known: Change, seen: Change) -> Change:
    """What of `seen` differs from `known`, which takes it over."""
    change: Change = {}
    for name, value in seen.items():
        before = known.get(name)
        if isinstance(value, dict):
            new = {key: one for key, one in value.items() if not isinstance(before, dict) or before.get(key) != one}
            known[name] = {**(before or {}), **value}
            if new:
                change[name] = new
        elif value != before:
            known[name] = change[name] = value
    return change


def _put(queue: asyncio.Queue[Change | None], change: Change | None) -> None:
    """Tell a page. One that does not read loses its backlog and its stream: it begins anew."""
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        change = None
    queue.put_nowait(change)


def _event(change: Change, request_id: str | None) -> bytes:
    told = {name: value for name, value in change.items() if name != "sink"}
    if request_id is not None:
        requests = [one for one in change.get("requests", ()) if one["request_id"] == request_id]
        if not requests and "reset" not in change:
            return b""
        told = {"requests": requests}
    return b"data: %s\n\n" % json.dumps(told).encode()
