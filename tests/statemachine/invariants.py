"""What must be true of the tables after every single step."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

from tests.parts.postgres import Postgres

_ROWS = """
SELECT request_id, session_id::text, status, accepted_at, started_at, completed_at, response_content, error_code, attempts
FROM request_logs ORDER BY session_id, accepted_at, request_id
"""
_DOUBLED = """
SELECT count(*) FROM (SELECT FROM request_sessions WHERE status = 'active'
                      GROUP BY integration_type, conversation_key HAVING count(*) > 1) d
"""
FINISHED = ("completed", "failed")


class Tables:
    """The tables, and what was seen in them before."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._ended: dict[str, tuple[Any, ...]] = {}
        self._closed: dict[str, frozenset[str]] = {}

    def session_closed(self, session_id: str) -> None:
        """From now on this session must take no request that it does not have already."""
        found = self._postgres.query("SELECT request_id FROM request_logs WHERE session_id = %s", session_id)
        self._closed.setdefault(session_id, frozenset(row[0] for row in found))

    def check(self) -> None:
        """Raise AssertionError when an invariant does not hold."""
        assert self._postgres.query(_DOUBLED) == [(0,)], "a conversation has two active sessions"
        rows = self._postgres.query(_ROWS)
        for row in rows:
            self._check_end(row)
        for session_id, turns in groupby(rows, key=lambda row: row[1]):
            if session_id is not None:
                self._check_order([(row[0], *row[2:6]) for row in turns])
        for session_id, known in self._closed.items():
            now = {row[0] for row in rows if row[1] == session_id}
            assert now <= known, f"the expired session took {now - known}"

    def _check_end(self, row: tuple[Any, ...]) -> None:
        """P2: what has ended stays as it ended."""
        request_id, session_id, status, _, _, completed_at, content, error, _ = row
        end = (session_id, status, completed_at, content, error)
        if status in FINISHED:
            assert self._ended.setdefault(request_id, end) == end, f"{request_id} has ended and changed"
            assert (content is None) == (status == "failed")
            assert (error is None) == (status == "completed")
        else:
            assert request_id not in self._ended, f"{request_id} had ended and is {status}"

    @staticmethod
    def _check_order(turns: list[tuple[Any, ...]]) -> None:
        """P3: nobody begins before everybody ahead has ended, and so one at a time."""
        assert sum(status == "processing" for _, status, *_ in turns) <= 1, "two turns of a session run at once"
        begun = [turn for turn in turns if turn[3] is not None]
        for (earlier, status, _, started, ended), (later, _, _, began, _) in pairwise(begun):
            assert started <= began, f"{later} began before {earlier}"
            assert status in FINISHED, f"{later} began while {earlier} was {status}"
            assert ended <= began, f"{later} began before {earlier} had ended"
        for number, (request_id, _, _, began, _) in enumerate(turns):
            if began is not None:
                waiting = [one[0] for one in turns[:number] if one[1] not in FINISHED]
                assert not waiting, f"{request_id} began before {waiting}, which stand ahead"
