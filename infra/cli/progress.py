"""What is seen while the agent works: on a terminal a spinner, and the answer as it is written; elsewhere nothing.

It is drawn on standard error and wiped away at the end, so that standard output has the answer once, whole.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from infra.cli.show import clean

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_PER_SECOND = 12
_ROOM = 3  # lines of the terminal that are left to the spinner


class Progress:
    """Shows nothing."""

    preview = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to wipe away."""

    def add(self, text: str) -> None:
        """The next piece of the answer."""

    def reset(self) -> None:
        """The pieces so far do not count: another attempt begins."""


class Spinner(Progress):
    """A spinner with the seconds that have passed; above it, when `preview`, the end of what the agent has written."""

    def __init__(self, *, preview: bool) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner as Wheel

        self.preview = preview
        self._written = ""
        self._started = time.monotonic()
        self._wheel = Wheel("dots")
        self._live = Live(self, console=Console(stderr=True), transient=True, refresh_per_second=_PER_SECOND)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def add(self, text: str) -> None:
        """Show the piece."""
        self._written += text

    def reset(self) -> None:
        """Wipe the pieces away."""
        self._written = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The last lines that fit, and the spinner."""
        from rich.markdown import Markdown
        from rich.segment import Segment

        if self.preview and self._written:
            lines = console.render_lines(Markdown(clean(self._written), hyperlinks=False), options, pad=False)
            for line in lines[-max(1, console.height - _ROOM) :]:
                yield from line
                yield Segment.line()
        self._wheel.update(text=f" {time.monotonic() - self._started:.0f} s")
        yield self._wheel


def progress(*, quiet: bool) -> Progress:
    """What suits where the command runs: standard error must be a terminal; the answer is previewed if both are."""
    if quiet or not sys.stderr.isatty():
        return Progress()
    return Spinner(preview=sys.stdout.isatty())
