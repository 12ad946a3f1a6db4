"""The table of functions: response-dispatch is woken for Slack's signs, and for nobody else's requests."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from infra.local.broker.cloudevent import CloudEvent
from infra.local.broker.triggers import TopologyError, load_topology
from tests.parts.functions import ROOT

TABLE = ROOT / "infra" / "topology.yaml"
MINE = "broker: {dead_letter: sink}\nfunctions:\n  sink: {kind: event}\n  one: {kind: event, wakes_on: [%s]}\n"


def event(event_type: str, integration: str) -> CloudEvent:
    attributes = {"specversion": "1.0", "type": event_type, "id": "1", "source": "/s", "integration": integration}
    return CloudEvent({f"ce-{name}": value for name, value in attributes.items()}, b"")


@pytest.mark.parametrize(("integration", "woken"), [("slack", True), ("web", False), ("cli", False), ("tool", False)])
@pytest.mark.parametrize("kind", ["created", "updated"])
def test_session_events_wake_it_for_slack_alone(integration: str, woken: bool, kind: str) -> None:
    names = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["functions"]
    topology = load_topology(TABLE, dict.fromkeys(names, "http://127.0.0.1:1/"))
    given = event(f"com.self-service-agent.session.{kind}", integration)
    wanted = {trigger.function for trigger in topology.triggers if trigger.wants(given)}
    assert "agent-invoke" in wanted
    assert ("response-dispatch" in wanted) is woken


@pytest.mark.parametrize(
    ("wakes_on", "message"),
    [
        ("{integration: slack}", "must have a type"),
        ("{type: ''}", "must not be empty"),
        ("{type: a, integration: 7}", "must be text"),
        ("{type: a, x: b}, {type: a, x: b}", "makes a second Trigger"),
    ],
)
def test_a_filter_that_cannot_be_used_is_one_line(tmp_path: Path, wakes_on: str, message: str) -> None:
    table = tmp_path / "topology.yaml"
    table.write_text(MINE % wakes_on, encoding="utf-8")
    with pytest.raises(TopologyError, match=message):
        load_topology(table, {"one": "http://127.0.0.1:1/", "sink": "http://127.0.0.1:1/"})


def test_one_type_may_be_wanted_of_two_integrations(tmp_path: Path) -> None:
    table = tmp_path / "topology.yaml"
    table.write_text(MINE % "{type: a, integration: slack}, {type: a, integration: tool}", encoding="utf-8")
    topology = load_topology(table, {"one": "http://127.0.0.1:1/", "sink": "http://127.0.0.1:1/"})
    assert [trigger.name for trigger in topology.triggers] == ["one-a-slack", "one-a-tool"]
