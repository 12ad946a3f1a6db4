"""`python -m infra.operate dlq|webhooks …`: on the database of POSTGRES_* and the broker of BROKER_URL (or K_SINK), or, with
`--platform http://localhost:8080`, on those of a local platform.

0: done. 1: it could not be done, in one line that says why. 2: the command line is wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psycopg
import urllib3
from psycopg.conninfo import conninfo_to_dict
from urllib3.exceptions import HTTPError

from common.database import connection_settings
from common.errors import SettingError, Unavailable
from infra.operate import commands

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def since(text: str) -> datetime:
    """A point in time: so long ago (90s, 15m, 2h, 7d), or ISO 8601 (UTC unless it says otherwise).

    Raises ArgumentTypeError for anything else.
    """
    ago = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if ago:
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 90s, 15m, 2h, 7d nor a time in ISO 8601") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m infra.operate", description="For operators: dead letters, webhooks.")
    top.add_argument("--platform", metavar="URL", help="the front door of `make run`, instead of POSTGRES_* and BROKER_URL")
    areas = top.add_subparsers(required=True, metavar="AREA")
    machine = argparse.ArgumentParser(add_help=False)
    machine.add_argument("--json", action="store_true", help="for programs")
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("--type", help="of this event type (request.created is enough)")
    which.add_argument("--since", type=since, help="seen since: 90s, 15m, 2h, 7d, or a time in ISO 8601")
    which.add_argument("--request", metavar="REQUEST_ID", help="about this request")

    dlq = areas.add_parser("dlq", help="dead letters: what a Trigger gave up on").add_subparsers(
        required=True, metavar="COMMAND"
    )
    listing = dlq.add_parser("list", parents=[machine, which], help="the dead letters, oldest first")
    listing.add_argument("--unreplayed", action="store_true", help="only those not replayed since they last came")
    listing.add_argument("--limit", type=int, default=100, help="at most so many, the newest (%(default)s)")
    listing.set_defaults(command=commands.dlq_list)
    show = dlq.add_parser("show", parents=[machine], help="one dead letter whole")
    show.add_argument("id", type=int, metavar="ID")
    show.set_defaults(command=commands.dlq_show)
    replay = dlq.add_parser("replay", parents=[machine, which], help="publish dead letters again, with their own ids")
    replay.add_argument("ids", type=int, nargs="*", metavar="ID")
    replay.add_argument("--dry-run", action="store_true", help="only say what would happen")
    replay.set_defaults(command=commands.dlq_replay)

    hooks = areas.add_parser("webhooks", help="the tools' webhooks").add_subparsers(required=True, metavar="COMMAND")
    hooks.add_parser("list", parents=[machine], help="which there are, and which are switched off").set_defaults(
        command=commands.webhooks_list
    )
    enable = hooks.add_parser("enable", help="switch a tool's webhook on")
    enable.add_argument("tool", metavar="TOOL", help="its id; * is the webhook of all tools")
    enable.add_argument("--resend", action="store_true", help="send the answers that were not sent while it was off")
    enable.set_defaults(command=commands.webhooks_enable)
    disable = hooks.add_parser("disable", help="switch a tool's webhook off")
    disable.add_argument("tool", metavar="TOOL", help="its id; * is the webhook of all tools")
    disable.set_defaults(command=commands.webhooks_disable)
    return top


def use_platform(url: str) -> None:
    """Take the settings of the platform at `url` for this process.

    Raises CommandError when none answers there.
    """
    try:
        answer = urllib3.request("GET", f"{url.rstrip('/')}/_platform", timeout=5.0, retries=False)
        described = json.loads(answer.data)
        database = conninfo_to_dict(described["database"]["url"])
        broker = described["broker"]["url"]
    except (HTTPError, ValueError, KeyError, TypeError, psycopg.ProgrammingError):
        raise commands.CommandError(f"no platform answers at {url}") from None
    os.environ.pop("K_SINK", None)
    os.environ["BROKER_URL"] = broker
    for name, key in {"HOST": "host", "PORT": "port", "DB": "dbname", "USER": "user", "PASSWORD": "password"}.items():
        if database.get(key):
            os.environ[f"POSTGRES_{name}"] = str(database[key])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command (by default the process's own command line); the exit code."""
    options = parser().parse_args(arguments)
    try:
        if options.platform:
            use_platform(options.platform)
        with psycopg.connect(**connection_settings(), autocommit=True) as connection:
            command: commands.Command = options.command
            return command(options, connection, sys.stdout)
    except (SettingError, commands.CommandError) as error:
        return _fail(str(error))
    except Unavailable:
        return _fail("the broker does not answer; what was published before stays published")
    except psycopg.errors.UndefinedTable:
        return _fail("the database has no tables yet: the migrations have not run")
    except psycopg.OperationalError as error:
        return _fail(f"the database does not answer ({type(error).__name__})")
    except BrokenPipeError:
        return 1


def _fail(line: str) -> int:
    sys.stderr.write(f"operate: {line}\n")
    return 1


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # what is wrong is said in one line
    sys.exit(main())
