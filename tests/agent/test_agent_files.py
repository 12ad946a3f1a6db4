"""The agents' files: what is accepted, and the one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from agents import Agents

from common.errors import SettingError

GOOD = """
id: {id}
description: Helps.
model: demo/demo-model
instructions: You help.
"""


def write(directory: Path, name: str, text: str) -> None:
    (directory / f"{name}.yaml").write_text(text, encoding="utf-8")


def good(directory: Path, agent_id: str, more: str = "") -> None:
    write(directory, agent_id, GOOD.format(id=agent_id) + more)


def test_the_shipped_agents_load_and_the_default_one_hands_over_to_the_specialist(shipped: Agents) -> None:
    routing, laptop = shipped.get("routing-agent"), shipped.get("laptop-refresh")

    assert "laptop-refresh" in routing.handoffs
    assert laptop.transfer_name == "transfer_to_laptop_refresh"
    assert routing.model == "demo/demo-model"
    assert [agent.id for agent in shipped] == ["laptop-refresh", "routing-agent"]


def test_what_a_file_leaves_out_has_a_default(tmp_path: Path) -> None:
    good(tmp_path, "helper")

    helper = Agents.load(tmp_path, {}).get("helper")

    assert (helper.tools, helper.handoffs, helper.sampling.temperature) == ((), (), None)


@pytest.mark.parametrize(
    ("model", "environment", "expected"),
    [
        ("${AGENT_MODEL:=demo/demo-model}", {}, "demo/demo-model"),
        ("${AGENT_MODEL:=demo/demo-model}", {"AGENT_MODEL": "vllm/granite"}, "vllm/granite"),
        ("${AGENT_MODEL:=demo/demo-model}", {"AGENT_MODEL": ""}, "demo/demo-model"),
        ("${AGENT_MODEL}", {"AGENT_MODEL": "vllm/granite"}, "vllm/granite"),
        ("vllm/granite", {"AGENT_MODEL": "other"}, "vllm/granite"),
    ],
)
def test_a_model_may_come_from_the_environment(
    tmp_path: Path, model: str, environment: dict[str, str], expected: str
) -> None:
    write(tmp_path, "a", GOOD.format(id="a").replace("demo/demo-model", model))

    agent = Agents.load(tmp_path, environment).get("a")

    assert agent.model == expected


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ("temprature: 1\n", "a.yaml: temprature: Extra inputs"),
        ("sampling: {temperature: hot}\n", "a.yaml: sampling.temperature:"),
        ("sampling: {temperature: 3}\n", "a.yaml: sampling.temperature:"),
        ("sampling: {tokens: 3}\n", "a.yaml: sampling.tokens:"),
        ("handoffs: [nobody]\n", "a.yaml: handoffs: there is no agent nobody"),
        ("handoffs: [a]\n", "a.yaml: handoffs: a is the agent itself"),
        ("handoffs: [b, b]\n", "a.yaml: handoffs: names an agent twice"),
        ("handoffs: [Not An Id]\n", "a.yaml: handoffs.0:"),
        ("tools: [{type: function, name: x}]\n", "a.yaml: tools: "),
        ("tools: [{name: x}]\n", "a.yaml: tools: "),
        ("tools: mcp\n", "a.yaml: tools: "),
    ],
)
def test_a_wrong_field_is_named_with_its_file_in_one_line(tmp_path: Path, more: str, names: str) -> None:
    good(tmp_path, "a", more)
    good(tmp_path, "b")

    with pytest.raises(SettingError) as refused:
        Agents.load(tmp_path, {})

    assert names in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("id: [", "a.yaml: is not YAML at line 1"),
        ("", "a.yaml: is not a mapping"),
        ("- id: a\n", "a.yaml: is not a mapping"),
        ("id: a\n", "a.yaml: description: Field required; model: Field required"),
        (GOOD.format(id="Upper_Case"), "a.yaml: id: "),
        (GOOD.format(id="a" * 53), "a.yaml: id: "),
        (GOOD.format(id="a").replace("You help.", "'  '"), "a.yaml: instructions: "),
        (GOOD.format(id="a").replace("demo/demo-model", "${AGENT_MODEL}"), "a.yaml: model: the variable AGENT_MODEL"),
    ],
)
def test_a_file_that_is_no_agent_is_refused_in_one_line(tmp_path: Path, text: str, names: str) -> None:
    write(tmp_path, "a", text)

    with pytest.raises(SettingError) as refused:
        Agents.load(tmp_path, {})

    assert names in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"id: \xff\xfe\n")

    with pytest.raises(SettingError, match=r"a\.yaml: cannot be read"):
        Agents.load(tmp_path, {})


def test_two_files_with_one_id_are_refused_naming_both(tmp_path: Path) -> None:
    write(tmp_path, "one", GOOD.format(id="a"))
    write(tmp_path, "two", GOOD.format(id="a"))

    with pytest.raises(SettingError, match=r"two\.yaml: id: a is already the id of one\.yaml"):
        Agents.load(tmp_path, {})


def test_a_directory_without_agents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no agent")

    with pytest.raises(SettingError, match="has no agent"):
        Agents.load(tmp_path, {})
    with pytest.raises(SettingError, match="not a directory"):
        Agents.load(tmp_path / "missing", {})


def test_files_of_a_mounted_config_map_are_read_through_its_links(tmp_path: Path) -> None:
    # A ConfigMap's files are links through ..data, which is a link to the newest version's directory.
    version = tmp_path / "..2026_01_01"
    version.mkdir()
    good(version, "a")
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "a.yaml").symlink_to(Path("..data") / "a.yaml")

    assert len(Agents.load(tmp_path, {})) == 1
