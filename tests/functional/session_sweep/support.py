"""session-sweep, what it sweeps, and the broker it sends to."""

from __future__ import annotations

import time
from typing import Any

from tests.parts.events import event, request_created
from tests.parts.functions import Event, Function
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder

PING = "dev.knative.sources.ping"
SOURCE = "/apis/v1/namespaces/self-service-agent/pingsources/session-sweep"


class Sweeping:
    """The function, what it sweeps, and the broker it sends to."""

    def __init__(self, functions: dict[str, Function], postgres: Postgres, broker: Recorder) -> None:
        self.sweep = functions["session-sweep"]
        self.upsert = functions["session-upsert"]
        self.postgres = postgres
        self.broker = broker

    def run(self) -> list[Event]:
        """One tick; what was published in it."""
        before = len(self.broker.events)
        answer = self.sweep.post_event(event(PING, f"tick-{time.monotonic_ns()}", {}, source=SOURCE))
        assert (answer.status, answer.body) == (204, b""), answer.body
        return self.broker.events[before:]

    def record(self, request_id: str, **changes: Any) -> Event:
        """A recorded request; its session event."""
        return Event.of(self.upsert.post_event(request_created(request_id=request_id, **changes)))

    def age(self, *, minutes: float = 0, days: float = 0) -> None:
        """Let everything have happened so much earlier."""
        ago = f"interval '{minutes} minutes' + interval '{days} days'"
        for table, columns in {
            "request_logs": "recorded_at accepted_at completed_at resumed_at redelivered_at delivered_at",
            "request_sessions": "created_at updated_at expires_at check_at turn_claimed_at lease_until",
            "dead_letters": "created_at updated_at",
        }.items():
            moved = ", ".join(f"{column} = {column} - ({ago})" for column in columns.split())
            self.postgres.query(f"UPDATE {table} SET {moved}")

    def finish(self, request_id: str, *, integration: str = "web") -> None:
        """The request is answered."""
        self.postgres.query(
            "UPDATE request_logs SET status = 'completed', response_content = 'the answer',"
            " completed_at = clock_timestamp(), integration_type = %s WHERE request_id = %s",
            integration,
            request_id,
        )

    def count(self, table: str) -> int:
        [(count,)] = self.postgres.query(f"SELECT count(*) FROM {table}")
        return int(count)

    def metric(self, action: str) -> float:
        """How often an action was done since the function started."""
        name = f'self_service_agent_swept_total{{action="{action}"}} '
        for line in self.sweep.get("/metrics").body.decode().splitlines():
            if line.startswith(name):
                return float(line.removeprefix(name))
        return 0.0
