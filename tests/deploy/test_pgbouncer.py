"""The functions behind a PgBouncer in transaction mode: fewer connections, the same answers, and waiters that are woken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.deploy.bouncer import SERVERS, PgBouncer
from tests.parts.events import request_created
from tests.parts.functions import ROOT, Event, Function, running
from tests.parts.llama import DemoModel
from tests.parts.net import Answer, free_port
from tests.parts.postgres import Postgres
from tests.platform.support import until

NAMES = ("session-upsert", "agent-invoke", "request-status")
_LISTENERS = "SELECT client_port FROM pg_stat_activity WHERE starts_with(query, 'LISTEN')"


@pytest.fixture(scope="module")
def bouncer(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    running = PgBouncer(tmp_path_factory.mktemp("pgbouncer"), postgres_server.environment())
    yield running
    running.close()


@pytest.fixture(scope="module")
def functions(bouncer: PgBouncer, postgres_server: Postgres, llama_stack: str) -> Iterator[dict[str, Function]]:
    direct = postgres_server.environment()
    settings = {
        **direct,
        "POSTGRES_PORT": str(bouncer.port),
        "POSTGRES_DIRECT_PORT": direct["POSTGRES_PORT"],
        "POSTGRES_PREPARE": "false",  # Debian's PgBouncer is older than 1.21
        "LLAMA_STACK_URL": llama_stack,
        "AUTH_MODE": "none",
        "THREADS": "16",
    }
    with running(NAMES, settings) as started:
        yield started


class Chain:
    """From a request to its answer, over PgBouncer at every step."""

    def __init__(self, functions: dict[str, Function]) -> None:
        self._functions = functions

    def record(self, request_id: str, conversation: str) -> Event:
        created = request_created(
            request_id=request_id,
            conversation_key=conversation,
            content="Which printers are there?",
            accepted_at=_stamp(request_id),
        )
        return Event.of(self._functions["session-upsert"].post_event(created))

    def answer(self, ready: Event) -> Answer:
        return self._functions["agent-invoke"].post_event(ready)

    def read(self, request_id: str, wait: int = 0) -> dict[str, Any]:
        reader = self._functions["request-status"]
        found = reader.get(f"/api/v1/requests/{request_id}?wait={wait}", x_user_id="webuser123")
        assert found.status == 200, reader.output()[-2000:]
        document: dict[str, Any] = found.json()
        return document


def _stamp(request_id: str) -> str:
    return f"2026-01-01T00:00:00.{int(request_id.removeprefix('r')):06d}Z"


@pytest.fixture
def chain(functions: dict[str, Function], postgres: Postgres, demo_model: DemoModel) -> Chain:
    return Chain(functions)


def test_everybody_is_answered_over_fewer_connections_than_the_functions_hold(chain: Chain, bouncer: PgBouncer) -> None:
    ids = [f"r{number}" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        readies = list(pool.map(lambda one: chain.record(one, f"conversation-{one}"), ids))
        answers = list(pool.map(chain.answer, readies))
        read = list(pool.map(chain.read, ids))
    assert [answer.status for answer in answers] == [200] * len(ids)
    assert {one["status"] for one in read} == {"completed"}
    held = [client for client in bouncer.show("CLIENTS") if client["database"] != "pgbouncer"]
    assert len(held) > SERVERS >= len(servers(bouncer))


def test_who_waits_listens_at_postgresql_itself_and_is_woken(
    chain: Chain, bouncer: PgBouncer, postgres: Postgres, demo_model: DemoModel
) -> None:
    demo_model.control(delay_ms=400)
    with ThreadPoolExecutor(3) as pool:
        first, second = chain.record("r1", "one"), chain.record("r2", "one")
        reader = pool.submit(chain.read, "r2", wait=30)
        turns = [pool.submit(chain.answer, first)]
        demo_model.wait_for_calls(1)
        turns.append(pool.submit(chain.answer, second))  # waits for the first
        until(
            lambda: len(listeners(postgres) - servers(bouncer)) == 2, "agent-invoke and request-status listen directly", 10
        )
        assert [turn.result().status for turn in turns] == [200, 200]
        assert reader.result()["status"] == "completed"
    assert listeners(postgres) & servers(bouncer) == set()


def test_the_migrations_go_to_postgresql_itself(postgres: Postgres) -> None:
    # They take a session's lock, which a connection that is shared by the transaction would keep.
    environment = {**postgres.environment(), "POSTGRES_DIRECT_PORT": postgres.environment()["POSTGRES_PORT"]}
    environment["POSTGRES_PORT"] = str(free_port())  # a PgBouncer that is not even there
    command = [sys.executable, "-m", "infra.migrations"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def listeners(postgres: Postgres) -> set[int]:
    """The ports that connections with LISTEN come from."""
    return {row[0] for row in postgres.query(_LISTENERS)}


def servers(bouncer: PgBouncer) -> set[int]:
    """The ports that PgBouncer's own connections to PostgreSQL come from."""
    return {int(str(one["local_port"])) for one in bouncer.show("SERVERS")}
