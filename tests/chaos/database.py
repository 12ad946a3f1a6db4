"""The run's own PostgreSQL: killed as a crash would, and with a witness that writes down every change of a request."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tests.parts.postgres import Postgres

# A trigger sees each commit whatever the code thinks that it did: the table is the order in which they happened.
_WITNESS = """
CREATE TABLE chaos_changes (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, request_id text NOT NULL,
    before text, after text NOT NULL, is_start boolean NOT NULL, changes_answer boolean NOT NULL);
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO chaos_changes (at, request_id, before, after, is_start, changes_answer)
        VALUES (clock_timestamp(), NEW.request_id, NULL, NEW.status, false, NEW.completed_at IS NOT NULL);
    ELSIF (OLD.status, OLD.attempts, OLD.response_content, OLD.error_code, OLD.agent_id, OLD.completed_at)
       IS DISTINCT FROM (NEW.status, NEW.attempts, NEW.response_content, NEW.error_code, NEW.agent_id, NEW.completed_at) THEN
        INSERT INTO chaos_changes (at, request_id, before, after, is_start, changes_answer)
        VALUES (clock_timestamp(), NEW.request_id, OLD.status, NEW.status, NEW.attempts > OLD.attempts,
                (OLD.response_content, OLD.error_code, OLD.agent_id, OLD.completed_at)
                IS DISTINCT FROM (NEW.response_content, NEW.error_code, NEW.agent_id, NEW.completed_at));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_note AFTER INSERT OR UPDATE ON request_logs FOR EACH ROW EXECUTE FUNCTION chaos_note();
"""


class Database(Postgres):
    """A migrated database with the witness."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.query(_WITNESS)

    @property
    def port(self) -> int:
        """Where the server itself listens."""
        return self._cluster.database.port

    @property
    def pid(self) -> int | None:
        """The server's main process, None while it does not run."""
        return self._process.pid if self._process is not None else None

    def kill(self) -> None:
        """SIGKILL to the server and every process of it; returns when the main one is gone."""
        if self._process is None:
            return
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        self._process.wait(30)
        self._process = None

    def start(self) -> None:
        """Start it; one that was killed may need another try, until the kernel has let go of its memory."""
        for pause in (0.2, 0.5, 1.0):
            try:
                super().start()
            except AssertionError:
                self.stop()
                time.sleep(pause)
            else:
                return
        super().start()
