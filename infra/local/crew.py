"""All the platform's children together: started, watched for failure, stopped in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from infra.local.console import Console
from infra.local.processes import Child, Probe
from infra.local.spawn import Program


class Crew:
    """The children by name, and the tasks that work on them.

    `failed` gets the first error of any of them. `log_all` brings every line of those that show warnings to the terminal.
    """

    def __init__(self, console: Console, *, log_all: bool) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._console = console
        self._log_all = log_all
        self._children: dict[str, Child] = {}
        self._work: set[asyncio.Task[Any]] = set()

    def go(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in the background; should it fail, the platform does."""
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._note)
        return task

    def start(self, program: Program, probe: Probe) -> Child:
        """Start a child and keep it running."""
        child = Child(program, probe, self._console, log_all=self._log_all and program.shows_warnings)
        self._children[child.name] = child
        self.go(child.run())
        return child

    def pid(self, name: str) -> int | None:
        """Give a child's process id, None while it does not run."""
        child = self._children.get(name)
        return child.pid if child else None

    def restarts(self, name: str) -> int:
        """Tell how often a child was started again."""
        child = self._children.get(name)
        return child.restarts if child else 0

    def not_ready(self) -> list[str]:
        """Give the names of the children that are not ready now."""
        return [name for name, child in self._children.items() if not child.is_ready]

    async def all_ready(self) -> None:
        """Wait until every child has been ready once."""
        for child in list(self._children.values()):
            await child.was_ready.wait()

    async def stop(self, names: Iterable[str]) -> None:
        """Stop these children at the same time; returns when they are gone."""
        await asyncio.gather(*(self._children[name].stop() for name in names if name in self._children))

    async def end_work(self) -> None:
        """Cancel what is still being worked on: starts that are not through, children that are not stopped."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def kill(self) -> None:
        """End every child at once."""
        for child in self._children.values():
            child.kill()

    def _note(self, task: asyncio.Task[Any]) -> None:
        self._work.discard(task)
        if task.cancelled() or self.failed.done():
            return
        error = task.exception()
        if error is not None:
            self.failed.set_exception(error)
