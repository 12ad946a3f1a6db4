"""What dashboard and alerts read is what running functions show after requests of every kind; alerts have their sections."""

from __future__ import annotations

import re
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from infra.observability.panels import ROWS
from tests.chain.conftest import Chain
from tests.observability.promql import Use, uses
from tests.observability.runbook import queries, sections
from tests.parts.events import event
from tests.parts.functions import ROOT
from tests.parts.net import call
from tests.platform.support import Platform, until

ALERTS = ROOT / "infra/observability/alerts.yaml"
# Labels of the scrape's target (infra/chart/templates/operations.yaml), which no function shows itself.
TARGET = {"namespace", "pod", "function"}
DEFECT = "500"  # the one value that no test can bring about: a function fails
# Whatever they say, somebody would have to make them up: people, sessions, requests, texts.
UNBOUNDED = {"user", "user_id", "session", "session_id", "request", "request_id", "channel_id", "path", "event_id"}


@dataclass
class Exposed:
    """Labels and their values by series name, of all functions together."""

    series: dict[str, set[tuple[tuple[str, str], ...]]] = field(default_factory=lambda: defaultdict(set))
    functions: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, function: str, text: str) -> None:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.series[sample.name].add(tuple(sorted(sample.labels.items())))
                self.functions[sample.name].add(function)

    def lacks(self, use: Use) -> str | None:
        """Why the series that `use` reads is not there, or None."""
        found = self.series.get(use.metric)
        if not found:
            return f"no function shows {use.metric}"
        for labels in found:
            known = dict(labels)
            wanted = [(name, value) for name, value in use.values if name not in TARGET and value != DEFECT]
            if use.labels - TARGET <= set(known) and all(known.get(name) == value for name, value in wanted):
                return None
        return f"no series of {use.metric} has the labels {sorted(use.labels)} with {dict(use.values)}"


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def scrape(platform: Platform) -> Exposed:
    exposed = Exposed()
    for name, function in platform.description()["functions"].items():
        exposed.add(name, call("GET", function["url"] + "/metrics").body.decode())
    return exposed


def asked(chain: Chain, **body: str) -> None:
    chain.ask("web", {"session_token": uuid.uuid4().hex, **body})


def refused(chain: Chain) -> None:
    """A message that is one too many for its session."""
    limit = "UPDATE integration_configs SET queue_limit = %s WHERE integration_type = 'cli'"
    with psycopg.connect(chain.database_url, autocommit=True) as connection:
        connection.execute(limit, (1,))
        chain.control_model(delay_ms=1000)
        first = chain.send("cli").json()["request_id"]
        until(lambda: chain.model_calls(), "the first is being answered")
        assert chain.ask("cli")["error"]["code"] == "queue_full"
        connection.execute(limit, (50,))
    chain.result(first)
    chain.control_model(delay_ms=0)


def failed_delivery(chain: Chain) -> None:
    """An answer for a webhook that no secret signs."""
    with psycopg.connect(chain.database_url, autocommit=True) as connection:
        connection.execute(
            'UPDATE integration_configs SET delivery = delivery || \'{"secret_ref": "nobody"}\''  # pragma: allowlist secret
            " WHERE integration_type = 'tool' AND delivery <> '{}'"
        )
    chain.ask("tool")


def malformed(chain: Chain) -> None:
    """An event that session-upsert will never take."""
    broken = event("com.self-service-agent.request.created", uuid.uuid4().hex, {"nothing": "in it"})
    answer = call("POST", chain.platform.description()["broker"]["url"], body=broken.body, headers=broken.headers)
    assert answer.status == 202


def without_database(chain: Chain) -> None:
    """A read while its table is away."""
    with psycopg.connect(chain.database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE request_logs RENAME TO request_logs_away")
        try:
            assert chain.platform.get(f"/api/v1/requests/{uuid.uuid4()}").status == 503
        finally:
            connection.execute("ALTER TABLE request_logs_away RENAME TO request_logs")


@pytest.fixture(scope="module")
def exposed(platform: Platform) -> Exposed:
    """What everything shows after requests that went well and requests that did not."""
    chain = Chain(platform)
    for integration in ("slack", "web", "cli", "tool"):
        chain.ask(integration)
    chain.control_model(fail_next=1, status=503)
    asked(chain, content="once more")
    chain.control_model(fail_next=1, status=400)
    asked(chain, content="that is refused")
    refused(chain)
    failed_delivery(chain)
    malformed(chain)
    without_database(chain)
    wanted = {
        "self_service_agent_dead_letters_total",
        "self_service_agent_database_errors_total",
        "self_service_agent_acceptance_to_delivery_seconds_count",
        "self_service_agent_turns_unfinished",
    }

    def found() -> Exposed | None:
        now = scrape(platform)
        return now if wanted <= set(now.series) else None

    one = until(found, "everything that was done is in the metrics")
    assert one is not None
    return one


def lacking(exposed: Exposed, expressions: list[str]) -> set[str]:
    used = [use for expression in expressions for use in uses(expression)]
    assert len({use.metric for use in used}) > 10
    return {why for use in used if (why := exposed.lacks(use))}


def test_what_the_alerts_read_is_there(exposed: Exposed) -> None:
    assert lacking(exposed, [rule["expr"] for rule in alerts()]) == set()


def test_what_the_dashboard_reads_is_there(exposed: Exposed) -> None:
    assert lacking(exposed, [query for row in ROWS for panel in row.panels for query, _ in panel.queries]) == set()


def test_every_metric_of_ours_is_on_the_dashboard(exposed: Exposed) -> None:
    shown = {use.metric for row in ROWS for panel in row.panels for query, _ in panel.queries for use in uses(query)}
    stems = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    ours = {name for name in exposed.series if name.startswith("self_service_agent_")}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in ours} - stems == set()


def test_no_label_is_one_that_a_caller_fills(exposed: Exposed) -> None:
    labels = {name for found in exposed.series.values() for series in found for name, _ in series}
    assert {"agent", "outcome", "status"} <= labels
    assert labels & UNBOUNDED == set()


def test_the_queue_is_shown_by_session_sweep_alone_and_always(exposed: Exposed) -> None:
    assert exposed.functions["self_service_agent_turns_unfinished"] == {"session-sweep"}
    assert {dict(labels)["status"] for labels in exposed.series["self_service_agent_turns_unfinished"]} == {
        "queued",
        "processing",
    }
    topology = yaml.safe_load((ROOT / "infra/topology.yaml").read_text())
    assert topology["functions"]["session-sweep"]["scale"]["min"] >= 1


def test_every_function_says_what_it_is(exposed: Exposed) -> None:
    builds = [dict(labels) for labels in exposed.series["self_service_agent_build_info"]]
    assert {one["function"] for one in builds} == {path.parent.name for path in ROOT.glob("functions/*/func.py")}
    assert "unknown" not in {one["version"] for one in builds}


def test_what_the_runbook_asks_for_is_there(exposed: Exposed) -> None:
    assert lacking(exposed, queries()) == set()


def test_every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() -> None:
    assert sorted(sections()) == sorted(rule["alert"] for rule in alerts())
    links = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in alerts()}
    assert links == {name: f"docs/runbook.md#{name.lower()}" for name in sections()}
