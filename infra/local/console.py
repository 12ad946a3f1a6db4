"""What the person at the terminal sees: short lines on standard error, each with a mark and the seconds since the start."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_COLOURS = {"✓": "\x1b[32m", "!": "\x1b[33m", "✗": "\x1b[31m"}
_PLAIN = "\x1b[0m"


class Console:
    """Writes the lines. A terminal that went away is no reason to stop: what cannot be written is dropped."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._started = time.monotonic()
        self._colours = _COLOURS if self._stream.isatty() else {}

    def step(self, text: str) -> None:
        """Say what is being done."""
        self._line("·", text)

    def done(self, text: str) -> None:
        """Say what has been done."""
        self._line("✓", text)

    def warn(self, text: str) -> None:
        """Say what went wrong or what to beware of, while the platform goes on."""
        self._line("!", text)

    def fail(self, text: str) -> None:
        """Say why the platform stops."""
        self._line("✗", text)

    def plain(self, text: str) -> None:
        """Write text of several lines as it is."""
        self._write(text)

    def _line(self, mark: str, text: str) -> None:
        colour = self._colours.get(mark, "")
        end = _PLAIN if colour else ""
        self._write(f"{colour}{mark}{end} {time.monotonic() - self._started:6.1f}s  {text}")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is closed
            return
        except UnicodeEncodeError:
            self._stream.write(text.encode("ascii", "replace").decode() + "\n")
