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
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def new_owner(self) -> str:
        """A name for the owner of one lease, that no other claim has, here or elsewhere."""
        return f"{self._process}:{next(self._numbers)}"

    def start(self) -> None:
        """Nothing to prepare: the first lease starts the thread."""

    def hold(self, owner: str, session_id: str) -> None:
        """Renew this owner's lease of the session from now on."""
        with self._lock:
            self._held[owner] = session_id
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._thread.start()

    def drop(self, owner: str) -> None:
        """Renew it no longer."""
        with self._lock:
            del self._held[owner]

    def close(self) -> None:
        """Stop renewing."""
        self._stopping.set()

    def _renew(self) -> None:
        # By the clock alone: to wake this thread for each lease costs each turn more than an idle look now and then.
        while not self._stopping.wait(self.seconds / 3):
            with self._lock:
                held = dict(self._held)
            if not held:
                continue
            # One that is no longer ours is not renewed; its turn finds that out when it commits.
            leases = {"sessions": sorted(set(held.values())), "owners": sorted(held), "lease": self.seconds}
            try:
                self._database.step("renew_leases", leases)
            except ServiceError:
                log.warning("leases could not be renewed", extra={"leases": len(held)})
