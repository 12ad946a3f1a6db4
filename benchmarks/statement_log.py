"""Which statements the functions send to PostgreSQL, by their names in common/sql/queries.sql, from the server's own log."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import psycopg

from common.database import load_queries

_PREFIX = "%a|"
_APPLICATION = "self-service-agent"  # what the functions' connections call themselves
_LINE = re.compile(rf"^{_APPLICATION}\|LOG:  (?:execute [^:]*|statement): (.*(?:\n\t.*)*)", re.MULTILINE)
_COMMENT = re.compile(r"--[^\n]*")


class StatementLog:
    """The statements that reach the server of this connection (a superuser's) from now on; `path` is the server's log."""

    def __init__(self, connection: psycopg.Connection[Any], path: Path) -> None:
        self._path = path
        self._names = {_plain(text): name for name, text in load_queries().items()}
        for setting, value in (("log_line_prefix", _PREFIX), ("log_statement", "all"), ("log_parameter_max_length", "0")):
            connection.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
        connection.execute("SELECT pg_reload_conf()")
        self._connection = connection
        self._offset = path.stat().st_size
        self._marks = 0

    def take(self) -> list[str]:
        """What came since the last time, oldest first: names, or the text of what has none (LISTEN, BEGIN).

        Raises TimeoutError when the log does not have it within 30 s: it may lag behind the server, so a mark of ours is
        waited for.
        """
        self._marks += 1
        mark = f"mark {self._marks} of {id(self)}"
        deadline = time.monotonic() + 30
        text = b""
        while mark.encode() not in text:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._path} has no {mark}")
            self._connection.execute(f"SELECT '{mark}'")  # again: the server may not have read its new settings yet
            time.sleep(0.01)  # the server writes its log when it likes
            text = self._path.read_bytes()[self._offset :]
        self._offset += len(text)
        found = (_plain(statement) for statement in _LINE.findall(text.decode(errors="replace")))
        return [self._names.get(statement, statement) for statement in found]


def _plain(statement: str) -> str:
    """A statement without its parameters' names and its layout."""
    return " ".join(re.sub(r"%\(\w+\)s|\$\d+", "?", _COMMENT.sub("", statement)).split())
