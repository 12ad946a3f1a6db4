"""Who waits for an answer is told it by the commit itself; what is too long to be told is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from tests.parts.events import request_created
from tests.parts.functions import Event, Function, running
from tests.parts.net import Answer, problem
from tests.parts.postgres import Postgres
from tests.parts.samples import GATEWAY_SECRET


@pytest.fixture(scope="module")
def functions(postgres_server: Postgres) -> Iterator[dict[str, Function]]:
    settings = {**postgres_server.environment(), "AUTH_MODE": "gateway", "GATEWAY_SECRET": GATEWAY_SECRET}
    with running(("request-status", "session-upsert"), settings) as started:
        yield started


class Reader:
    """ann, who waits for her request r1."""

    def __init__(self, functions: dict[str, Function], postgres: Postgres, pool: ThreadPoolExecutor) -> None:
        self._status = functions["request-status"]
        self._postgres = postgres
        self._pool = pool
        created = request_created(request_id="r1", user_id="ann")
        Event.of(functions["session-upsert"].post_event(created))

    def waits(self) -> Future[Answer]:
        """Begin to wait."""
        return self._pool.submit(
            self._status.get, "/api/v1/requests/r1?wait=20", x_gateway_secret=GATEWAY_SECRET, x_user_id="ann"
        )

    def tell(self, asked: Future[Answer], **changes: str) -> Answer:
        """Tell a row that is not what the table holds, until the waiting reader has heard it; what it answers."""
        row = self._value("SELECT request_row(r) FROM request_logs r WHERE request_id = 'r1'")
        told = {**row, "status": "completed", "content": "as it was told", "metadata": {}, **changes}
        while not asked.done():
            self._postgres.query("SELECT pg_notify('answers', 'r1 ' || %s)", json.dumps(told))
            wait([asked], timeout=0.05)
        return asked.result()

    def turn(self, content: str) -> None:
        """Run the turn of r1 as agent-invoke does."""
        claim = self._value("SELECT claim_turn('r1', 'me', interval '15 s', 20)")
        result = {"status": "completed", "content": content, "agent_id": "a", "model_calls": 1, "metadata": {}}
        self._postgres.query(
            "SELECT finish_turn('r1', 'me', %s, %s::jsonb)",
            claim["fence"],
            json.dumps({**result, "input_tokens": 1, "output_tokens": 1}),
        )

    def _value(self, statement: str) -> dict[str, Any]:
        found: dict[str, Any] = self._postgres.query(statement)[0][0]
        return found


@pytest.fixture
def reader(functions: dict[str, Function], postgres: Postgres) -> Iterator[Reader]:
    with ThreadPoolExecutor() as pool:
        yield Reader(functions, postgres, pool)


def test_what_a_reader_was_told_is_not_read_again(reader: Reader) -> None:
    assert reader.tell(reader.waits()).json()["response"]["content"] == "as it was told"


def test_somebody_elses_row_is_not_shown_to_who_is_told_it(reader: Reader) -> None:
    problem(reader.tell(reader.waits(), user_id="bob"), 403)


@pytest.mark.parametrize("length", [1, 7_000, 7_800, 8_000, 30_000])
def test_an_answer_of_any_length_ends_the_wait(reader: Reader, length: int) -> None:
    asked = reader.waits()
    reader.turn("ü" * (length // 2) + "." * (length % 2))
    found = asked.result(10).json()
    assert (found["status"], len(found["response"]["content"].encode())) == ("completed", length)
