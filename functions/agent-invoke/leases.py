"""Keeping the leases of this process's turns alive, by one thread for all of them."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import threading
import uuid

from common.database import Database
from common.errors import ServiceError

log = logging.getLogger(__name__)


class Leases:
    """The leases that this process holds now: of each, its owner and its session.

    A lease lasts `seconds` and is renewed every third of that; a worker that cannot renew loses it, and then cannot commit.
    """

    def __init__(self, database: Database, seconds: float) -> None:
        self.seconds = seconds
        self._process = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._numbers = itertools.count(1)
        self._database = database
        self._held: dict[str, str] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def new_owner(self) -> str:
        """A name for the owner of one lease, that no other claim has, here or elsewhere."""
        return f"{self._process}:{next(self._numbers)}"

    def start(self) -> None:
        """Nothing to prepare: the first lease starts the thread."""

    def hold(self, owner: str, session_id: str) -> None:
        """Renew this owner's lease of the session from now on."""
        with self._changed:
            self._held[owner] = session_id
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._thread.start()
            self._changed.notify()

    def drop(self, owner: str) -> None:
        """Renew it no longer."""
        with self._changed:
            del self._held[owner]

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
                held = dict(self._held)
            if not held:
                continue
            # One that is no longer ours is not renewed; its turn finds that out when it commits.
            leases = {"sessions": sorted(set(held.values())), "owners": sorted(held), "lease": self.seconds}
            try:
                self._database.step("renew_leases", leases)
            except ServiceError:
                log.warning("leases could not be renewed", extra={"leases": len(held)})
