"""`agent chat`: a line, its answer, the next line; one conversation, with the editing and the history of a shell."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from infra.cli import show
from infra.cli.failures import ANSWERED, CliError, Denied

_HELP = "/new  another conversation    /history  this one so far    /help    Ctrl-C  stop waiting    Ctrl-D  end"
_KEPT_LINES = 1000
_PROMPT = "› "


class Chat:
    """Runs until the input ends. `ask` asks one line and gives an exit code, `begin` starts another conversation."""

    def __init__(
        self, *, ask: Callable[[str], int], begin: Callable[[], None], history: Callable[[], None], json: bool
    ) -> None:
        self._ask = ask
        self._begin = begin
        self._history = history
        self._is_person = sys.stdin.isatty() and sys.stdout.isatty() and not json

    def run(self, directory: Path) -> int:
        """Ask every line of the input; what the worst of them came to, if it is a program's."""
        if not self._is_person:
            return max((self._ask(line.strip()) for line in sys.stdin if line.strip()), default=ANSWERED)
        show.note(_HELP)
        with _line_history(directory / "chat_history"):
            while True:
                try:
                    self._turn(input(_PROMPT).strip())
                except EOFError:
                    click.echo()
                    return ANSWERED
                except KeyboardInterrupt:
                    click.echo()
                    show.note("Ctrl-D ends")

    def _turn(self, line: str) -> None:
        try:
            if line.startswith("/"):
                self._command(line)
            elif line:
                self._ask(line)
        except Denied:
            raise
        except CliError as error:  # the next line may fare better
            show.complain(error.message)

    def _command(self, line: str) -> None:
        match line:
            case "/new":
                self._begin()
                show.note("another conversation")
            case "/history":
                self._history()
            case "/help":
                show.note(_HELP)
            case _:
                show.complain(f"there is no {line.split()[0]}; {_HELP}")


@contextlib.contextmanager
def _line_history(path: Path) -> Iterator[None]:
    """The lines typed before, at the arrow keys; kept for this person only. A Python without readline has none."""
    try:
        import readline
    except ImportError:
        yield
        return
    readline.set_history_length(_KEPT_LINES)
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            readline.write_history_file(path)
