"""What each stage counts and times, over real HTTP, PostgreSQL and Llama Stack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional.response_dispatch.support import SECRET, finished
from tests.observability.scrape import Scrape, grown
from tests.parts.events import request_created
from tests.parts.functions import Event, Function
from tests.parts.llama import DemoModel
from tests.parts.net import call
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES
from tests.platform.support import until


@pytest.fixture(scope="module")
def functions(postgres_server: Postgres, llama_stack: str) -> Iterator[dict[str, Function]]:
    settings = {**postgres_server.environment(), "LLAMA_STACK_URL": llama_stack}
    started = {name: Function(name, settings) for name in ("agent-invoke", "session-upsert")}
    yield started
    for function in started.values():
        function.close()


class TestSessions:
    def test_an_event_that_comes_again_is_a_duplicate(self, functions: dict[str, Function], postgres: Postgres) -> None:
        upsert, created = functions["session-upsert"], request_created(request_id="r1")
        before = Scrape(upsert)
        assert upsert.post_event(created).status == 200
        assert grown(upsert, before, "duplicates_total", function="session-upsert") == 0
        assert upsert.post_event(created).status == 200
        assert grown(upsert, before, "duplicates_total", function="session-upsert") == 1

    def test_so_is_one_that_was_refused(self, functions: dict[str, Function], postgres: Postgres) -> None:
        postgres.query("UPDATE integration_configs SET enabled = false WHERE integration_type = 'web'")
        upsert, created = functions["session-upsert"], request_created(request_id="r1")
        before = Scrape(upsert)
        for expected in (0, 1):
            assert upsert.post_event(created).status == 200
            assert grown(upsert, before, "duplicates_total", function="session-upsert") == expected

    def test_statements_are_timed_by_name(self, functions: dict[str, Function], postgres: Postgres) -> None:
        upsert = functions["session-upsert"]
        before = Scrape(upsert)
        upsert.post_event(request_created(request_id="r1"))
        assert grown(upsert, before, "statement_seconds_count", statement="record_request") == 1
        assert grown(upsert, before, "statement_seconds_sum", statement="record_request") > 0


class TestAgent:
    @pytest.fixture
    def agent(self, functions: dict[str, Function], postgres: Postgres, demo_model: DemoModel) -> Function:
        return functions["agent-invoke"]

    @pytest.fixture
    def ready(self, functions: dict[str, Function], agent: Function) -> Callable[..., Event]:
        return lambda **changes: Event.of(
            functions["session-upsert"].post_event(request_created(**{"request_id": "r1", **changes}))
        )

    def test_a_hand_off_is_a_call_of_each_agent_with_its_own_time_and_tokens(
        self, agent: Function, ready: Callable[..., Event]
    ) -> None:
        before = Scrape(agent)
        assert agent.post_event(ready(content="I want to refresh my laptop")).status == 200
        for name in ("routing-agent", "laptop-refresh"):
            assert grown(agent, before, "model_calls_total", agent=name, outcome="success") == 1
            assert grown(agent, before, "model_call_seconds_count", agent=name) == 1
            assert grown(agent, before, "tokens_total", agent=name, direction="input") > 0
        # The first only handed over: it said nothing.
        assert grown(agent, before, "first_token_seconds_count", agent="routing-agent") == 0
        assert grown(agent, before, "first_token_seconds_count", agent="laptop-refresh") == 1

    def test_an_answer_that_nobody_reads_along_has_no_first_token(
        self, agent: Function, ready: Callable[..., Event]
    ) -> None:
        before = Scrape(agent)
        assert agent.post_event(ready(integration_type="tool", content="which printers?")).status == 200
        assert grown(agent, before, "model_calls_total", agent="routing-agent", outcome="success") == 1
        assert grown(agent, before, "first_token_seconds_count", agent="routing-agent") == 0

    @pytest.mark.parametrize(
        ("status", "answered", "outcome"),
        [(503, 503, "unavailable"), (429, 503, "unavailable"), (400, 200, "agent_request_refused")],
    )
    def test_how_a_call_failed_is_its_outcome(
        self,
        agent: Function,
        ready: Callable[..., Event],
        demo_model: DemoModel,
        status: int,
        answered: int,
        outcome: str,
    ) -> None:
        demo_model.control(fail_next=50, status=status)  # Llama Stack tries again by itself
        before = Scrape(agent)
        assert agent.post_event(ready()).status == answered
        assert grown(agent, before, "model_calls_total", agent="routing-agent", outcome=outcome) == 1
        assert grown(agent, before, "model_calls_total", agent="routing-agent", outcome="success") == 0
        assert grown(agent, before, "model_call_seconds_count", agent="routing-agent") == 1
        assert grown(agent, before, "tokens_total", agent="routing-agent", direction="input") == 0

    def test_a_turn_that_was_answered_before_is_a_duplicate(self, agent: Function, ready: Callable[..., Event]) -> None:
        event = ready()
        before = Scrape(agent)
        for expected in (0, 1):
            assert agent.post_event(event).status == 200
            assert grown(agent, before, "duplicates_total", function="agent-invoke") == expected


class TestPublishing:
    def test_taken_and_not_taken_events_are_timed_apart(self, serve: Callable[..., Function], recorder: Recorder) -> None:
        recorder.clear()
        web = serve("ingest-web", {"BROKER_URL": recorder.url, "AUTH_MODE": "none"})
        assert Scrape(web).value("publish_seconds_count", outcome="failure") == 0
        assert call("POST", web.url, json_body=BODIES["web"]).status == 202
        recorder.status = 500
        assert call("POST", web.url, json_body=BODIES["web"]).status == 503
        seen = Scrape(web)
        assert seen.value("publish_seconds_count", outcome="success") == 1
        assert seen.value("publish_seconds_count", outcome="failure") == 1


class TestDeliveries:
    @pytest.fixture
    def dispatch(self, serve: Callable[..., Function], postgres: Postgres, recorder: Recorder) -> Function:
        recorder.clear()
        postgres.query(
            "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', 'snow', %s)",
            json.dumps({"webhook_url": recorder.url + "hook", "secret_ref": "snow"}),  # pragma: allowlist secret
        )
        settings = {"WEBHOOK_SECRETS": json.dumps({"snow": SECRET}), "WEBHOOK_URLS_ALLOWED": recorder.url}
        return serve("response-dispatch", {**postgres.environment(), **settings})

    def test_an_answer_that_arrives_is_timed_from_acceptance_and_once(
        self, dispatch: Function, postgres: Postgres, recorder: Recorder
    ) -> None:
        recorder.status = 200
        event = finished(postgres, "tool", accepted_at="2026-01-01T00:00:00Z")
        assert dispatch.post_event(event).status == 204
        assert dispatch.post_event(event).status == 204
        seen = Scrape(dispatch)
        assert seen.value("delivery_seconds_count", channel="webhook") == 1
        assert seen.value("acceptance_to_delivery_seconds_count", channel="webhook") == 1
        assert (seen.value("acceptance_to_delivery_seconds_sum", channel="webhook") or 0) > 3600
        assert seen.value("duplicates_total", function="response-dispatch") == 1

    def test_one_that_does_not_arrive_is_timed_and_has_not_been_delivered(
        self, dispatch: Function, postgres: Postgres, recorder: Recorder
    ) -> None:
        recorder.status = 500
        assert dispatch.post_event(finished(postgres, "tool")).status == 503
        seen = Scrape(dispatch)
        assert seen.value("delivery_seconds_count", channel="webhook") == 1
        assert not seen.value("acceptance_to_delivery_seconds_count", channel="webhook")
        assert seen.value("deliveries_total", channel="webhook", outcome="failure") == 1

    def test_a_tool_without_a_webhook_is_delivered_nothing(self, dispatch: Function, postgres: Postgres) -> None:
        postgres.query("UPDATE integration_configs SET delivery = '{}' WHERE integration_key = 'snow'")
        assert dispatch.post_event(finished(postgres, "tool")).status == 204
        seen = Scrape(dispatch)
        assert seen.value("deliveries_total", channel="webhook", outcome="success") == 1
        assert not seen.value("acceptance_to_delivery_seconds_count", channel="webhook")


class TestProcess:
    def test_the_pool_is_shown_as_it_is(self, serve: Callable[..., Function], postgres: Postgres) -> None:
        seen = Scrape(serve("session-upsert", {**postgres.environment(), "POOL_MAX": "3"}))
        assert seen.value("pool_connections_max") == 3
        # More than one when readiness was asked again while the first connection was being made.
        assert 1 <= (seen.value("pool_connections", state="idle") or 0) <= 3
        assert seen.value("pool_connections", state="busy") == 0
        assert seen.value("pool_waiting") == seen.value("pool_errors_total") == 0

    def test_a_statement_that_waits_for_a_connection_is_seen(
        self, serve: Callable[..., Function], postgres: Postgres
    ) -> None:
        upsert = serve("session-upsert", {**postgres.environment(), "POOL_MAX": "1"})
        with postgres.connect() as connection, ThreadPoolExecutor(2) as pool:
            connection.execute("BEGIN; LOCK TABLE request_logs")
            sent = [pool.submit(upsert.post_event, request_created(request_id=f"r{number}")) for number in (1, 2)]
            until(lambda: Scrape(upsert).value("pool_waiting") == 1, "one has the connection, one waits for it")
            assert Scrape(upsert).value("pool_connections", state="busy") == 1
            connection.execute("COMMIT")
            assert {one.result(30).status for one in sent} <= {200, 503}
        assert (Scrape(upsert).value("pool_wait_seconds_total") or 0) > 0

    def test_threads_at_work_are_counted_the_scrapes_own_among_them(
        self, serve: Callable[..., Function], postgres: Postgres
    ) -> None:
        status = serve("request-status", {**postgres.environment(), "AUTH_MODE": "none", "THREADS": "12"})
        assert Scrape(status).value("threads") == 12
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(status.get, "/api/v1/requests/nobody?wait=2")
            until(lambda: Scrape(status).value("threads_busy") == 2, "the reader that waits, and the scrape")
            assert Scrape(status).value("requests_waiting") == 0
            assert held.result(30).status == 404
