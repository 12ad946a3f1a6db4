"""The system under chaos: the real platform on a PostgreSQL of the run's own behind a proxy, and a second agent-invoke."""

from __future__ import annotations

import os
import re
import signal
import threading
from contextlib import suppress
from pathlib import Path

import psycopg
from urllib3.exceptions import HTTPError

from tests.chaos.database import Database
from tests.chaos.knobs import Knobs
from tests.chaos.proxy import Proxy
from tests.chaos.schedule import HANG_SECONDS, REPLICA
from tests.parts.events import PREFIX, event
from tests.parts.functions import Function
from tests.parts.llama import VENV
from tests.parts.net import call
from tests.platform.support import ROOT, Platform

_PROGRAM = re.compile(r"functions/([a-z-]+)|infra\.local\.(broker)\b|llama\.(demo_model)\b|(llama_stack)\.distribution")
_UNFINISHED = """
SELECT normalized_request, session_id::text, opened_session FROM request_logs
WHERE status IN ('queued', 'processing') AND session_id IS NOT NULL ORDER BY random() LIMIT 4
"""


class System:
    """Everything that is broken and looked at. `close` ends it all."""

    def __init__(self, directory: Path, knobs: Knobs) -> None:
        self.directory = directory
        self.control = directory / "faults"
        self.fault_log = directory / "faults.log"
        self.call_log = directory / "calls.jsonl"
        self.fault_log.touch()
        self.database = Database(directory / "database")
        self.proxy = Proxy(self.database.port)
        self._environment = {
            **{name: value for name, value in self.database.environment().items() if name.startswith("POSTGRES_")},
            "POSTGRES_PORT": str(self.proxy.port),
            "FAULTS_CONTROL": str(self.control),
            "FAULTS_LOG": str(self.fault_log),
            "FAULTS_SEED": str(knobs.seed),
            "FAULTS_HANG_SECONDS": str(HANG_SECONDS),
            "LEASE_SECONDS": str(knobs.lease_seconds),
            "SENDING_SECONDS": str(knobs.delivery_lease_seconds),
        }
        self.platform = Platform(
            directory / "state",
            self._environment
            | {
                "DEMO_MODEL_CALLS": str(self.call_log),
                "DEMO_MODEL_DELAY_MS": str(knobs.model_ms),
                "BROKER_DISORDER": knobs.disorder(),
                "LLAMA_STACK_VENV": str(VENV),
            },
            ROOT / "infra" / "topology.yaml",
        )
        try:
            self.platform.wait_ready()
            described = self.platform.description()
            self.broker_url = described["broker"]["url"].rsplit("/", 2)[0]
            self.replica = Replica(self.database, self._environment | {"LLAMA_STACK_URL": described["llama_stack"]["url"]})
        except BaseException:
            self.platform.close()
            self.proxy.close()
            self.database.close()
            raise

    def pid(self, part: str) -> int | None:
        """The process of a function, the broker, Llama Stack, the model or PostgreSQL; None while it does not run.

        Read from the kernel: asking the platform means asking every function, and some of them stand still.
        """
        if part == "postgresql":
            return self.database.pid
        if part == REPLICA:
            return self.replica.pid()
        main = self.platform.process.pid
        for child in Path(f"/proc/{main}/task/{main}/children").read_text().split():
            with suppress(OSError):
                command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found = _PROGRAM.search(command)
                if found and (found[1] or (found[2] or found[3] or found[4]).replace("_", "-")) == part:
                    return int(child)
        return None

    def signal(self, part: str, number: signal.Signals) -> bool:
        """Send a signal to a part; whether it was there."""
        pid = self.pid(part)
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def arm(self, rules: str) -> None:
        """Make these the rules of every fault point from now on."""
        new = self.control.with_suffix(".new")
        new.write_text(rules, encoding="utf-8")
        new.replace(self.control)

    def close(self) -> None:
        """End everything."""
        self.replica.close()
        self.platform.close()
        self.proxy.close()
        self.database.close()


class Replica:
    """A second process of agent-invoke, as if it had been scaled up.

    It is given what the broker has given to the first one, again and at any time: a turn may be taken over by another
    process, and its answer, which nobody takes here, must come from the first one all the same.
    """

    def __init__(self, database: Database, environment: dict[str, str]) -> None:
        self._database = database
        self._environment = environment
        self._stopping = threading.Event()
        self._function = self._start()
        self.posted = 0
        self._threads = [threading.Thread(target=self._deliver, daemon=True) for _ in range(2)]
        for thread in self._threads:
            thread.start()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def pid(self) -> int | None:
        """Its process id, None when it was killed and is not back yet."""
        return self._function.process.pid if self._function.process.poll() is None else None

    def _start(self) -> Function:
        return Function("agent-invoke", self._environment, ready=False)

    def _keep(self) -> None:
        while not self._stopping.wait(0.1):
            if self._function.process.poll() is not None:
                self._function.close()
                self._function = self._start()

    def _deliver(self) -> None:
        while not self._stopping.wait(0.25):
            with suppress(psycopg.Error, HTTPError):
                for request, session_id, opened in self._database.query(_UNFINISHED):
                    data = {"session": {"session_id": session_id, "opened": opened}, "request": request}
                    kind = "session.created" if opened else "session.updated"
                    again = event(PREFIX + kind, f"{request['request_id']}.session", data, requestid=request["request_id"])
                    self.posted += 1
                    call("POST", self._function.url + "/", body=again.body, headers=again.headers)

    def quiet(self) -> None:
        """Deliver nothing more."""
        self._stopping.set()

    def close(self) -> None:
        """End it."""
        self._stopping.set()
        self._keeper.join(60)
        if self._function.process.poll() is None:
            self._function.process.send_signal(signal.SIGCONT)
        self._function.process.kill()
        self._function.close()
        for thread in self._threads:
            thread.join(80)
