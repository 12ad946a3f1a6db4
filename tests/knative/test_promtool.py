"""Alerts, dashboard and metrics, by Prometheus' own promtool."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.observability.panels import ROWS
from tests.functional.test_host import FUNCTIONS, settings_of_all
from tests.knative.conftest import CHART, render, run, tool
from tests.observability import runbook
from tests.parts.functions import ROOT, Function
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder

ALERTS = ROOT / "infra/observability/alerts.yaml"
CASES = Path(__file__).parent / "alerts_test.yaml"


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def dashboard_queries() -> list[str]:
    return [query for row in ROWS for panel in row.panels for query, _ in panel.queries]


def test_the_rules_are_prometheus_rules() -> None:
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(ALERTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_not_when_it_should_not() -> None:
    done = run("promtool", "test", "rules", str(CASES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_a_healthy_one() -> None:
    fires: dict[str, set[bool]] = defaultdict(set)
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for check in case["alert_rule_test"]:
            fires[check["alertname"]].add(bool(check.get("exp_alerts")))
    assert fires == {rule["alert"]: {True, False} for rule in alerts()}


def test_an_alert_that_never_fires_is_caught_by_name(tmp_path: Path) -> None:
    rules = yaml.safe_load(ALERTS.read_text())
    rules["groups"][0]["rules"][0]["expr"] = "vector(0) > 1"
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
    (tmp_path / "cases.yaml").write_text(CASES.read_text().replace("../../infra/observability/", ""))
    done = run("promtool", "test", "rules", str(tmp_path / "cases.yaml"))
    assert done.returncode != 0
    assert "alertname: SelfServiceAgentIngestFailing" in done.stdout + done.stderr


@pytest.mark.parametrize("queries", [dashboard_queries(), runbook.queries()], ids=["dashboard", "runbook"])
def test_every_query_is_promql(tmp_path: Path, queries: list[str]) -> None:
    assert len(queries) > 20
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m").replace("$namespace", ".*")}
        for number, query in enumerate(queries)
    ]
    place = tmp_path / "queries.yaml"
    place.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = run("promtool", "check", "rules", str(place))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_metrics_of_a_function_are_named_as_prometheus_wants(
    name: str, serve: Callable[..., Function], postgres: Postgres, recorder: Recorder
) -> None:
    function = serve(name, settings_of_all(postgres, recorder))
    scraped = function.get("/metrics").body
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=scraped, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


class TestChart:
    """What the chart makes of them."""

    def documents(self, *more: str) -> dict[str, dict[str, Any]]:
        switched_on = ("--set", "monitoring.rules=true,monitoring.dashboard=true", *more)
        text = render("knative", CHART, *switched_on)
        return {f"{one['kind']} {one['metadata']['name']}": one for one in yaml.safe_load_all(text) if one}

    def test_the_rules_are_those_of_the_file(self, tmp_path: Path) -> None:
        rule = self.documents()["PrometheusRule self-service-agent"]
        assert rule["spec"]["groups"] == yaml.safe_load(ALERTS.read_text())["groups"]
        place = tmp_path / "rule.yaml"
        place.write_text(yaml.safe_dump(rule))
        done = run("knative", "validate", str(place))
        assert (done.returncode, done.stdout.count("no Go type")) == (0, 0), done.stderr

    def test_a_runbook_that_is_somewhere_else(self) -> None:
        where = "https://wiki.example.com/runbook"
        rule = self.documents("--set", f"monitoring.runbookUrl={where}")["PrometheusRule self-service-agent"]
        links = {
            one["alert"]: one["annotations"]["runbook_url"] for group in rule["spec"]["groups"] for one in group["rules"]
        }
        assert links == {one["alert"]: f"{where}#{one['alert'].lower()}" for one in alerts()}

    def test_grafanas_sidecar_finds_the_dashboard(self) -> None:
        found = self.documents()["ConfigMap self-service-agent-dashboard"]
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
        dashboard = json.loads(found["data"]["self-service-agent.json"])
        assert [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"] == [row.title for row in ROWS]

    def test_neither_is_there_unless_it_is_asked_for(self) -> None:
        text = render("knative")
        assert "PrometheusRule" not in text
        assert "grafana_dashboard" not in text
