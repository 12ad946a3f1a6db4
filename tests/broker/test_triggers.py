"""The topology table: which Triggers it makes, how their backoff runs, and what is refused with one clear line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from yarl import URL

from infra.local.broker.cloudevent import CloudEvent, parse
from infra.local.broker.triggers import DeliverySpec, TopologyError, Trigger, load_topology, parse_duration

from .harness import ROOT, event_headers

TABLE = """
event_prefix: com.example
broker: {dead_letter: dead-letter}
functions:
  ingest: {kind: ingest, paths: [/api]}
  turn:
    kind: event
    wakes_on: [com.example.session.created, com.example.session.updated]
    delivery: {retry: 100, backoffPolicy: linear, backoffDelay: PT0.1S, timeout: PT290S}
  dead-letter: {kind: event, wakes_on: [], delivery: {retry: 10}}
"""
SUBSCRIBERS = {"turn": "http://127.0.0.1:1/", "dead-letter": "http://127.0.0.1:2/"}


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "topology.yaml"
    path.write_text(text)
    return path


def event(event_type: str = "t", **extensions: str) -> CloudEvent:
    parsed = parse(event_headers(event_type, "1", **extensions), b"")
    assert parsed is not None
    return parsed


def test_each_type_that_wakes_a_function_is_a_trigger(tmp_path: Path) -> None:
    topology = load_topology(table(tmp_path, TABLE), SUBSCRIBERS)

    created, updated = topology.triggers
    assert (created.name, updated.name) == ("turn-session-created", "turn-session-updated")
    assert created.function == updated.function == "turn"
    assert created.url == URL("http://127.0.0.1:1/")
    assert created.delivery == DeliverySpec(retry=100, policy="linear", delay=0.1, timeout=290.0)
    assert created.wants(event("com.example.session.created"))
    assert not created.wants(event("com.example.session.updated"))
    assert (topology.dead_letter.function, topology.dead_letter.delivery.retry) == ("dead-letter", 10)


def test_the_table_of_this_repository_loads() -> None:
    path = ROOT / "infra/topology.yaml"
    functions = yaml.safe_load(path.read_text())["functions"]
    woken = [name for name, function in functions.items() if function["kind"] == "event"]

    topology = load_topology(path, dict.fromkeys(woken, "http://127.0.0.1:1/"))

    assert {trigger.function for trigger in (*topology.triggers, topology.dead_letter)} == set(woken)


def test_what_wakes_a_function_may_ask_for_more_than_a_type(tmp_path: Path) -> None:
    slack_only = TABLE.replace("com.example.session.created,", "{type: com.example.session.created, integration: slack},")

    created = load_topology(table(tmp_path, slack_only), SUBSCRIBERS).triggers[0]

    assert created.name == "turn-session-created-slack"  # as the chart names it
    assert created.wants(event("com.example.session.created", integration="slack"))
    assert not created.wants(event("com.example.session.created", integration="web"))
    assert not created.wants(event("com.example.session.created"))


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({}, True),
        ({"type": "t", "source": "/test", "tenant": "a"}, True),
        ({"tenant": "A"}, False),
        ({"tenant": ""}, True),  # any value
        ({"absent": ""}, False),  # but there must be one
        ({"place": "Łódź, PL"}, True),  # as text, however it travelled
        ({"datacontenttype": "application/json"}, True),
    ],
)
def test_a_filter_matches_exact_attributes(attributes: dict[str, str], wanted: bool) -> None:
    trigger = Trigger("t", "f", URL("http://127.0.0.1/"), attributes, DeliverySpec())

    assert trigger.wants(event(tenant="a", place="%C5%81%C3%B3d%C5%BA,%20PL")) is wanted


def test_linear_backoff_starts_at_nothing_and_exponential_at_the_delay() -> None:
    linear, exponential = DeliverySpec(policy="linear", delay=0.1), DeliverySpec(policy="exponential", delay=0.1)

    assert [round(linear.backoff(n), 3) for n in range(4)] == [0.0, 0.1, 0.2, 0.3]
    assert [round(exponential.backoff(n), 3) for n in range(4)] == [0.1, 0.2, 0.4, 0.8]
    assert exponential.backoff(5000) > 1e9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT0.2S", 0.2), ("PT5M", 300), ("PT1H30M", 5400), ("P1DT1S", 86401), ("P2W", 1209600), ("PT0S", 0)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "5s", "P1Y", "P1M", "PT-1S", "PT1S ", "pt1s"])
def test_what_is_no_duration_of_fixed_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an ISO 8601 duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (TABLE, "]", "is not YAML"),
        (TABLE, "- a", "the table: must be a mapping"),
        ("functions:", "function:", "functions: must be a mapping"),
        ("{dead_letter: dead-letter}", "{}", "broker.dead_letter: must be text"),
        ("{dead_letter: dead-letter}", "{dead_letter: nobody}", "broker.dead_letter: 'nobody' is not one of"),
        ("[com.example.session.created, com.example.session.updated]", "x", "functions.turn.wakes_on: must be a list"),
        ("com.example.session.created,", "7,", "functions.turn.wakes_on[0]: must be text"),
        ("com.example.session.created,", "com.example.session.updated,", "a second Trigger turn-session-updated"),
        ("kind: ingest,", "kind: ingest, wakes_on: [a],", "functions.ingest.wakes_on: only a function of kind event"),
        ("retry: 100", "retry: -1", "functions.turn.delivery.retry: must be a whole number"),
        ("retry: 100", "retries: 100", "functions.turn.delivery.retries: is not known"),
        ("backoffPolicy: linear", "backoffPolicy: random", "backoffPolicy: must be linear or exponential"),
        ("backoffPolicy: linear, ", "", "functions.turn.delivery: backoffPolicy and backoffDelay go together"),
        ("PT0.1S", "100ms", "functions.turn.delivery.backoffDelay: '100ms' is not an ISO 8601 duration"),
        ("PT290S", "290", "functions.turn.delivery.timeout: must be text"),
    ],
)
def test_a_wrong_table_is_refused_with_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TABLE
    path = table(tmp_path, TABLE.replace(old, new))

    with pytest.raises(TopologyError) as refused:
        load_topology(path, SUBSCRIBERS)

    assert message in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("subscribers", "message"),
    [
        ({"dead-letter": "http://127.0.0.1:2/"}, "functions.turn: has no subscriber"),
        ({"turn": "http://127.0.0.1:1/"}, "functions.dead-letter: has no subscriber"),
        (SUBSCRIBERS | {"nobody": "http://127.0.0.1:3/"}, "functions.nobody: is not in the table"),
        (SUBSCRIBERS | {"turn": "localhost:80"}, "functions.turn: its subscriber 'localhost:80' is not an http(s) URL"),
        (SUBSCRIBERS | {"turn": "http://[::1"}, "is not an http(s) URL"),
    ],
)
def test_wrong_subscribers_are_refused_with_one_line(tmp_path: Path, subscribers: dict[str, str], message: str) -> None:
    with pytest.raises(TopologyError) as refused:
        load_topology(table(tmp_path, TABLE), subscribers)

    assert message in str(refused.value)


def test_the_process_says_so_in_one_line_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "infra.local.broker", "--port", "0", "--store", str(tmp_path / "broker.sqlite")]

    ended = subprocess.run(
        [*command, "--topology", str(tmp_path / "none.yaml")], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == 2
    assert ended.stderr == f"broker: {tmp_path}/none.yaml: cannot be read (FileNotFoundError)\n"
