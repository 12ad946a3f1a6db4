"""Keeping the leases of this process's turns alive, by one thread for all of them."""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections import Counter

from common.database import Database
from common.errors import ServiceError

log = logging.getLogger(__name__)


class Leases:
    """The sessions whose turn this process runs now. `owner` names the process; no two processes ever share one.

    A lease lasts `seconds` and is renewed every third of that; a worker that cannot renew loses it, and then cannot commit.
    """

    def __init__(self, database: Database, seconds: float) -> None:
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self.seconds = seconds
        self._database = database
        # A count: the next turn of a session may be claimed before the one that was just committed has dropped its hold.
        self._held: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """Nothing to prepare: the first lease starts the thread."""

    def hold(self, session_id: str) -> None:
        """Renew this session's lease from now on."""
        with self._changed:
            self._held[session_id] += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._thread.start()
            self._changed.notify()

    def drop(self, session_id: str) -> None:
        """Renew it no longer."""
        with self._changed:
            self._held[session_id] -= 1
            if not self._held[session_id]:
                del self._held[session_id]

    def close(self) -> None:
        """Stop renewing."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def _renew(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held or self._stopping)
                self._changed.wait_for(lambda: self._stopping, timeout=self.seconds / 3)
                if self._stopping:
                    return
                sessions = sorted(self._held)
            if not sessions:
                continue
            # One that is no longer ours is not renewed; its turn finds that out when it commits.
            try:
                self._database.step("renew_leases", {"sessions": sessions, "owner": self.owner, "lease": self.seconds})
            except ServiceError:
                log.warning("leases could not be renewed", extra={"leases": len(sessions)})
