"""`python -m infra.keys create|rotate|revoke|list TOOL_ID`: the content of TOOL_KEYS, or with --webhook of WEBHOOK_SECRETS.

The content is read from --file and written back there, or read from standard input and written to standard output. What the
operator has to read is on standard error; a new key is shown once, there (with --file: alone on standard output).
0: done. 1: it could not be done, in one line that says why. 2: the command line is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.keys import content
from infra.keys.content import KeysError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m infra.keys", description=(__doc__ or "").partition("\n")[0])
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--file", type=Path, help="the file with the content; without it standard input and output")
    shared.add_argument("--webhook", action="store_true", help="the secrets that sign webhooks, not the API keys")

    def add(name: str, text: str, *, optional: bool = False) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[shared], help=text)
        command.add_argument("tool", metavar="TOOL_ID", nargs="?" if optional else None, help="the tool's id")
        return command

    add("create", "the first key of a tool")
    rotating = add("rotate", "another key; the old ones stay good until they are revoked")
    rotating.add_argument(
        "--overlap", type=int, default=7, metavar="DAYS", help="how long the old one should stay (%(default)s)"
    )
    revoking = add("revoke", "all keys but the newest, or the one named by --hash")
    revoking.add_argument("--hash", metavar="PREFIX", help="the first characters of the key's hash, as `list` shows it")
    revoking.add_argument("--all", action="store_true", help="every key: the tool has no access any more")
    add("list", "which keys there are, by their hashes", optional=True)
    return top


def run(options: argparse.Namespace) -> None:
    """Do it.

    Raises KeysError when it cannot be done; then nothing was written.
    """
    kind = "WEBHOOK_SECRETS" if options.webhook else "TOOL_KEYS"
    before = content.parse(_read(options.file), kind)
    if options.command == "list":
        _list(before, options.tool)
        return
    if options.command == "revoke":
        if options.all and options.hash:
            raise KeysError("--all or --hash, not both")
        after, gone = content.revoke(before, options.tool, options.hash, everything=options.all)
        _write(options.file, content.dump(after))
        _tell(*(f"revoked {one[:12]} of {options.tool}" for one in gone), _then(kind))
        return
    key, kept = content.new_secret() if options.webhook else content.new_key()
    change = content.create if options.command == "create" else content.rotate
    after = change(before, options.tool, kept)
    _write(options.file, content.dump(after))
    what = "webhook secret" if options.webhook else "key"
    _tell(f"the {what} of {options.tool}, shown this once (hash {content.fingerprint(kept)[:12]}):")
    (sys.stdout if options.file else sys.stderr).write(f"{key}\n")
    _tell(_then(kind))
    if options.command == "rotate":
        until = datetime.now(UTC) + timedelta(days=options.overlap)
        flag = " --webhook" if options.webhook else ""
        _tell(f"leave the old one until {until:%Y-%m-%d}, when the tool has the new one; then: revoke {options.tool}{flag}")


def _then(kind: str) -> str:
    return f"put the content into {kind} of the Secret, then start the functions that read it anew (docs/tools.md)"


def _list(there: dict[str, list[str]], tool: str | None) -> None:
    if tool is not None and not there.get(tool):
        raise KeysError(f"{tool} has no key")
    for name, several in sorted(there.items()):
        if tool in (None, name):
            for number, kept in enumerate(several, 1):
                newest = "  newest" if number == len(several) else ""
                sys.stdout.write(f"{name}  {content.fingerprint(kept)[:12]}{newest}\n")


def _read(path: Path | None) -> str:
    try:
        if path is not None:
            return path.read_text(encoding="utf-8") if path.exists() else ""
        return "" if sys.stdin.isatty() else sys.stdin.read()
    except (OSError, UnicodeDecodeError):
        raise KeysError(f"{path or 'standard input'} cannot be read") from None


def _write(path: Path | None, text: str) -> None:
    """Whole or not at all, and for the owner's eyes only."""
    if path is None:
        sys.stdout.write(text)
        return
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        os.replace(file.name, path)  # noqa: PTH105
    except OSError as error:
        raise KeysError(f"{path} cannot be written: {error.strerror}") from None


def _tell(*lines: str) -> None:
    sys.stderr.writelines(f"{line}\n" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = parser().parse_args(arguments)
    try:
        run(options)
    except KeysError as error:
        _tell(f"keys: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
