"""Answers read while they are written: agent-invoke and request-status on real PostgreSQL and Llama Stack."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import urllib3

from tests.parts.events import request_created
from tests.parts.functions import Event, Function, running
from tests.parts.llama import DemoModel
from tests.parts.net import problem
from tests.parts.postgres import Postgres
from tests.platform.support import until

FINAL = "3"
LONG = " ".join(f"word{n}" for n in range(30))


@pytest.fixture(scope="module")
def functions(postgres_server: Postgres, llama_stack: str) -> Iterator[dict[str, Function]]:
    settings = {**postgres_server.environment(), "LLAMA_STACK_URL": llama_stack, "AUTH_MODE": "none"}
    with running(("agent-invoke", "session-upsert", "request-status"), settings) as started:
        yield started


Told = tuple[str, str, Any]  # an event's id, its name, its data


class Chain:
    """The functions that a turn goes through, and a reader of server-sent events."""

    def __init__(self, functions: dict[str, Function], postgres: Postgres, model: DemoModel) -> None:
        self.agent, self.upsert = functions["agent-invoke"], functions["session-upsert"]
        self.status = functions["request-status"]
        self.postgres, self.model = postgres, model

    def record(self, request_id: str = "r1", content: str = "Which printers are there?", **more: Any) -> Event:
        return Event.of(self.upsert.post_event(request_created(request_id=request_id, content=content, **more)))

    def read(self, request_id: str = "r1", last: str | None = None) -> Iterator[Told]:
        """The events of the stream as they come, after `last`."""
        headers = {"last-event-id": last} if last else {}
        url = f"{self.status.url}/api/v1/requests/{request_id}/events"
        response = urllib3.PoolManager(retries=False, timeout=20).request("GET", url, headers=headers, preload_content=False)
        rest = b""
        for piece in response.stream(65536):
            *blocks, rest = (rest + piece).split(b"\n\n")
            for block in blocks:
                fields = dict(line.split(": ", 1) for line in block.decode().splitlines() if not line.startswith(":"))
                if fields:
                    yield fields["id"], fields["event"], json.loads(fields["data"])

    def chunks(self) -> list[tuple[int, int, str | None]]:
        """What was written for readers: attempt, number, text."""
        return [
            (attempt, seq, content)
            for attempt, seq, content in self.postgres.query(
                "SELECT attempt, seq, content FROM response_chunks ORDER BY request_id, attempt, seq"
            )
        ]


@pytest.fixture
def chain(functions: dict[str, Function], postgres: Postgres, demo_model: DemoModel) -> Chain:
    return Chain(functions, postgres, demo_model)


def text_of(told: list[Told]) -> str:
    """What a reader of these events shows before the answer is finished."""
    text = ""
    for _, name, data in told:
        text = "" if name == "reset" else text + data["content"] if name == "chunk" else text
    return text


def order(event_id: str) -> tuple[int, int, int]:
    """Where an event stands: the pieces of the answer between the second status and the last."""
    number, dot, seq = event_id.partition(".")
    return (2, int(number), int(seq)) if dot else (int(number), 0, 0)


def test_the_answer_is_read_while_it_is_written_and_ends_with_the_committed_one(chain: Chain) -> None:
    chain.model.control(word_delay_ms=30)
    ready = chain.record()
    reader = chain.read()
    timed = [(time.monotonic(), next(reader))]
    with ThreadPoolExecutor() as pool:
        turn = pool.submit(chain.agent.post_event, ready)
        timed += [(time.monotonic(), one) for one in reader]
        answer = Event.of(turn.result(20)).data()
    told = [one for _, one in timed]
    names = [name for _, name, _ in told]
    assert names[-1] == "status"
    assert names.count("chunk") > 5
    assert [told[0][0], told[0][2]["status"]] == ["1", "queued"]
    assert [told[1][0], told[1][2]["status"]] == ["2", "processing"]
    assert (told[-1][0], told[-1][2]["status"], told[-1][2]["response"]["content"]) == (
        FINAL,
        "completed",
        answer["content"],
    )
    assert answer["content"].startswith(text_of(told))
    assert len(text_of(told)) > len(answer["content"]) / 2
    places = [order(event_id) for event_id, _, _ in told]
    assert places == sorted(set(places))
    first = next(at for at, (_, name, _) in timed if name == "chunk")
    assert timed[-1][0] - first > 0.5  # the first words came long before the last ones


def test_a_reader_who_resumes_after_any_event_gets_the_rest_once(chain: Chain) -> None:
    chain.model.control(word_delay_ms=25, delay_ms=100)
    ready = chain.record()
    with ThreadPoolExecutor() as pool:
        turn = pool.submit(chain.agent.post_event, ready)
        told: list[Told] = []
        last = None
        for _ in range(60):  # every connection is dropped after two events
            reader = chain.read(last=last)
            for event in (next(reader, None), next(reader, None)):
                if event:
                    told.append(event)
                    last = event[0]
            if last == FINAL:
                break
        answer = Event.of(turn.result(20)).data()
    ids = [event_id for event_id, _, _ in told]
    assert len(set(ids)) == len(ids)
    assert sum(name == "chunk" for _, name, _ in told) > 3
    assert told[-1][2]["response"]["content"] == answer["content"]
    assert answer["content"].startswith(text_of(told))
    assert text_of(told)


def test_a_reader_who_comes_late_gets_what_was_written_and_then_the_rest(chain: Chain) -> None:
    chain.model.control(word_delay_ms=40)
    ready = chain.record()
    with ThreadPoolExecutor() as pool:
        turn = pool.submit(chain.agent.post_event, ready)
        until(lambda: len(chain.chunks()) > 5, "chunks are written")
        early = "".join(content or "" for _, _, content in chain.chunks())
        told = list(chain.read())
        answer = Event.of(turn.result(20)).data()
    assert text_of(told).startswith(early)
    assert told[-1][2]["response"]["content"] == answer["content"]


def test_a_hand_off_tells_only_what_the_specialist_says(chain: Chain) -> None:
    chain.model.control(word_delay_ms=10)
    ready = chain.record(content="I want to refresh my laptop")
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(lambda: list(chain.read()))
        answer = Event.of(chain.agent.post_event(ready)).data()
        told = reading.result(20)
    assert answer["agent_id"] == "laptop-refresh"
    assert len(chain.model.calls()) == 2
    assert "reset" not in [name for _, name, _ in told]
    assert text_of(told)
    assert answer["content"].startswith(text_of(told))


def test_a_turn_that_is_begun_anew_is_read_as_one_clean_answer(
    chain: Chain, serve: Callable[..., Function], llama_stack: str
) -> None:
    settings = {**chain.postgres.environment(), "LLAMA_STACK_URL": llama_stack, "LEASE_SECONDS": "1"}
    doomed, other = serve("agent-invoke", settings), serve("agent-invoke", settings)
    ready = chain.record()
    chain.model.control(word_delay_ms=60)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(lambda: list(chain.read()))
        pool.submit(doomed.post_event, ready)
        until(lambda: len(chain.chunks()) > 3, "chunks are written")
        doomed.stop(signal.SIGKILL)
        chain.model.control(word_delay_ms=20)
        answer = Event.of(other.post_event(ready)).data()
        told = reading.result(20)
    resets = [number for number, (event_id, name, _) in enumerate(told) if name == "reset" and event_id == "2.0"]
    assert len(resets) == 1
    assert text_of(told[: resets[0]])
    assert answer["content"].startswith(text_of(told))
    assert (told[-1][0], told[-1][2]["response"]["content"]) == (FINAL, answer["content"])


def test_a_finished_request_is_told_at_once_and_without_chunks(chain: Chain) -> None:
    chain.model.control(word_delay_ms=5)
    chain.agent.post_event(chain.record())
    [(event_id, name, data)] = list(chain.read())
    assert (event_id, name, data["status"]) == (FINAL, "status", "completed")
    assert list(chain.read(last="1.2")) == [(event_id, name, data)]
    assert list(chain.read(last=FINAL)) == []


@pytest.mark.parametrize("last", ["x", "1.2.3", "-1", "1.", "9999999999", "1.x"])
def test_an_unknown_last_event_id_is_a_new_reader(chain: Chain, last: str) -> None:
    chain.agent.post_event(chain.record())
    assert [event_id for event_id, _, _ in chain.read(last=last)] == [FINAL]


class TestCost:
    def test_an_answer_is_its_first_words_and_then_a_chunk_each_80_ms(self, chain: Chain) -> None:
        ready = chain.record()
        started = time.monotonic()
        chain.agent.post_event(ready)
        assert 1 <= len(chain.chunks()) <= 1 + (time.monotonic() - started) / 0.08

    @pytest.mark.parametrize("integration", ["slack", "tool"])
    def test_what_nobody_reads_along_is_not_streamed(self, chain: Chain, integration: str) -> None:
        chain.agent.post_event(chain.record(integration_type=integration))
        assert chain.chunks() == []

    def test_streaming_can_be_switched_off_and_the_answer_is_the_same(
        self, chain: Chain, serve: Callable[..., Function], llama_stack: str
    ) -> None:
        settings = {**chain.postgres.environment(), "LLAMA_STACK_URL": llama_stack, "STREAMING": "false"}
        whole = serve("agent-invoke", settings)
        answers = [
            Event.of(agent.post_event(chain.record(request_id, "my old laptop", conversation_key=request_id))).data()
            for request_id, agent in (("r1", whole), ("r2", chain.agent))
        ]
        columns = "agent_id, model_calls, response_content, response_metadata"
        rows = chain.postgres.query(f"SELECT {columns} FROM request_logs ORDER BY request_id")
        assert rows[0] == rows[1]
        assert answers[0]["content"] == answers[1]["content"]
        assert {request_id for (request_id,) in chain.postgres.query("SELECT request_id FROM response_chunks")} == {"r2"}

    def test_a_chunk_notifies_only_when_somebody_follows_its_request(self, chain: Chain) -> None:
        chunks = json.dumps([{"request_id": "r1", "attempt": 1, "seq": n, "content": "x"} for n in (1, 2)])
        assert chain.postgres.query("SELECT append_chunks(%s::jsonb)", chunks) == [(0,)]
        chain.postgres.query("SELECT follow_request('r1')")
        assert chain.postgres.query("SELECT append_chunks(%s::jsonb)", chunks) == [(1,)]
        assert len(chain.chunks()) == 2  # written twice, stored once

    def test_old_chunks_and_readers_are_dropped(self, chain: Chain) -> None:
        chain.postgres.query("SELECT follow_request('old'), follow_request('new')")
        for request_id in ("old", "new"):
            row = json.dumps([{"request_id": request_id, "attempt": 1, "seq": 1, "content": "x"}])
            chain.postgres.query("SELECT append_chunks(%s::jsonb)", row)
        for table in ("response_chunks", "response_readers"):
            chain.postgres.query(f"UPDATE {table} SET created_at = now() - interval '1 hour' WHERE request_id = 'old'")
        assert chain.postgres.query("SELECT drop_chunks(interval '15 minutes')") == [(2,)]
        for table in ("response_chunks", "response_readers"):
            assert chain.postgres.query(f"SELECT request_id FROM {table}") == [("new",)]


class TestFailures:
    def test_chunks_that_cannot_be_written_do_not_hurt_the_turn(self, chain: Chain) -> None:
        chain.model.control(word_delay_ms=10)
        ready = chain.record()
        chain.postgres.query("ALTER TABLE response_chunks RENAME TO away")
        try:
            assert Event.of(chain.agent.post_event(ready)).data()["status"] == "completed"
        finally:
            chain.postgres.query("ALTER TABLE away RENAME TO response_chunks")

    def test_a_lost_chunk_is_no_gap_in_the_text(self, chain: Chain) -> None:
        chain.record()
        chain.postgres.query("UPDATE request_logs SET status = 'processing'")
        rows = json.dumps([{"request_id": "r1", "attempt": 1, "seq": n, "content": f"{n} "} for n in (1, 2, 4)])
        chain.postgres.query("SELECT append_chunks(%s::jsonb)", rows)
        reader = chain.read()
        told = [next(reader) for _ in range(3)]
        chain.postgres.query(
            "UPDATE request_logs SET status = 'completed', response_content = '1 2 3 4', completed_at = now()"
        )
        told += reader
        assert text_of(told) == "1 2 "
        assert told[-1][2]["response"]["content"] == "1 2 3 4"

    def test_a_model_that_stops_in_the_middle_is_given_up_after_agent_timeout(
        self, chain: Chain, serve: Callable[..., Function], llama_stack: str
    ) -> None:
        settings = {**chain.postgres.environment(), "LLAMA_STACK_URL": llama_stack, "AGENT_TIMEOUT": "1"}
        strict = serve("agent-invoke", settings)
        warm = chain.record("warm")
        until(lambda: strict.post_event(warm).status == 200, "the client is imported")
        ready = chain.record("r1")
        chain.model.control(word_delay_ms=400)
        started = time.monotonic()
        assert "in time" in problem(strict.post_event(ready), 503)["detail"]
        assert time.monotonic() - started < 2
        chain.model.control(word_delay_ms=0)
        assert Event.of(chain.agent.post_event(ready)).data()["status"] == "completed"
