"""What each command does. Each returns the exit code and writes to `out`."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import psycopg

from common import events
from common.broker import Broker
from infra.operate import letters, webhooks

Connection = psycopg.Connection[Any]
EVERYTHING = 1_000_000


class CommandError(Exception):
    """The command cannot be done; the text is one line for the operator."""


def dlq_list(options: Namespace, connection: Connection, out: TextIO) -> int:
    """Every dead letter that matches, one line each."""
    found = letters.find(
        connection,
        letters.Filter(
            type=options.type,
            since=options.since,
            request_id=options.request,
            unreplayed=options.unreplayed,
            limit=options.limit,
        ),
    )
    if options.json:
        return _json([letter.view() for letter in found], out)
    rows = [("ID", "LAST SEEN", "EVENT", "CODE", "REQUEST", "REPLAYED", "A REPLAY WOULD DO")]
    for letter in found:
        view = letter.view()
        event_type = str(view["type"]).removeprefix(events.PREFIX)
        request, replayed = view["request_id"] or "-", view["replayed_at"] or "-"
        rows.append(
            (str(letter.id), view["updated_at"], event_type, view["code"] or "none", request, replayed, view["replay"])
        )
    return _table(rows, out) if found else _line("no dead letters", out)


def dlq_show(options: Namespace, connection: Connection, out: TextIO) -> int:
    """One dead letter whole: where it failed, why, what a replay would do, and the event."""
    [letter] = _by_ids(connection, [options.id])
    view = letter.view() | {"event": letter.row["event"]}
    if options.json:
        return _json(view, out)
    event = view.pop("event")
    _table([(name, "-" if value is None else str(value)) for name, value in view.items()], out)
    out.write(json.dumps(event, ensure_ascii=False, indent=2) + "\n")
    return 0


def dlq_replay(options: Namespace, connection: Connection, out: TextIO) -> int:
    """Publish dead letters again: the named ones, or those that match and were not replayed since they last came."""
    if options.ids:
        found = _by_ids(connection, options.ids)
    elif options.type or options.since or options.request:
        found = letters.find(
            connection,
            letters.Filter(
                type=options.type, since=options.since, request_id=options.request, unreplayed=True, limit=EVERYTHING
            ),
        )
    else:
        raise CommandError("say which: IDs, or --type, --since, --request")
    publish = _nothing if options.dry_run else Broker().publish
    done = []
    for letter in found:
        outlook = letter.outlook()
        at = letters.now(connection)
        publish(letter.event())
        if not options.dry_run:
            letters.note_replayed(connection, letter, at)
        done.append(
            {"id": letter.id, "event_id": letter.row["event_id"], "published": not options.dry_run, "replay": outlook}
        )
        if not options.json:
            _line(f"{letter.id} {'would be' if options.dry_run else 'was'} published: {outlook}", out)
    return _json(done, out) if options.json else 0 if done else _line("no dead letters", out)


def webhooks_list(options: Namespace, connection: Connection, out: TextIO) -> int:
    """Every tool's webhook and whether it is switched off."""
    found = webhooks.rows(connection)
    if options.json:
        return _json(found, out)
    rows = [("TOOL", "WEBHOOK", "SWITCHED OFF", "WHY", "NOT SENT")]
    rows += [(one["tool"], one["url"], one["disabled_at"] or "-", one["reason"] or "-", str(one["unsent"])) for one in found]
    return _table(rows, out) if found else _line("no tool has a webhook", out)


def webhooks_enable(options: Namespace, connection: Connection, out: TextIO) -> int:
    """Switch a webhook on; with --resend also send what it was not sent."""
    webhook = _known(connection, options.tool)
    missed = webhooks.unsent(connection, webhook)
    broker = Broker() if options.resend else None
    if not webhooks.enable(connection, webhook):
        return _line(f"{options.tool} was not switched off", out)
    if broker is None:
        return _line(f"{options.tool} is switched on; {len(missed)} answers were not sent meanwhile", out)
    for answer in missed:
        broker.publish(events.response_ready("agent-invoke", answer))
    return _line(f"{options.tool} is switched on; {len(missed)} answers are sent again", out)


def webhooks_disable(options: Namespace, connection: Connection, out: TextIO) -> int:
    """Switch a webhook off by hand."""
    webhook = _known(connection, options.tool)
    was_on = webhooks.disable(connection, webhook, "Switched off by an operator.")
    return _line(f"{options.tool} is switched off" if was_on else f"{options.tool} was switched off already", out)


def _by_ids(connection: Connection, ids: list[int]) -> list[letters.DeadLetter]:
    found = letters.find(connection, letters.Filter(ids=ids, limit=EVERYTHING))
    missing = sorted(set(ids) - {letter.id for letter in found})
    if missing:
        raise CommandError(f"there is no dead letter {', '.join(map(str, missing))}")
    return found


def _known(connection: Connection, name: str) -> dict[str, Any]:
    for one in webhooks.rows(connection):
        if one["tool"] == name:
            return one
    raise CommandError(f"no webhook is configured for {name} (* is the one of all tools)")


def _nothing(_event: object) -> None:
    """What a dry run publishes."""


def _line(text: str, out: TextIO) -> int:
    out.write(text + "\n")
    return 0


def _json(value: object, out: TextIO) -> int:
    return _line(json.dumps(value, ensure_ascii=False, default=str), out)


def _table(rows: Sequence[tuple[str, ...]], out: TextIO) -> int:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        _line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), out)
    return 0


Command = Callable[[Namespace, Connection, TextIO], int]
