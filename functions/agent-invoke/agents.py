"""The agents: one YAML file each, read and checked at start, so that a mistake never waits for a person."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from common.errors import SettingError

TRANSFER_PREFIX = "transfer_to_"
"""A hand-off is a call of the function `transfer_to_<agent id>`, with _ for - in the id."""

_FROM_ENVIRONMENT = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)(?::=([^}]*))?\}")

# With the prefix, a function name of at most 64 characters (the limit of OpenAI's API, which Llama Stack
# speaks).
AgentId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=52)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Sampling(BaseModel):
    """How the model picks words; what is left out is the server's default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, gt=0)


class Agent(BaseModel):
    """One agent, as its file says.

    `tools` are Responses API tools that the Llama Stack server runs itself (mcp, file_search, web_search);
    `handoffs` are the ids of the agents it may give a conversation to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: AgentId
    description: Text
    model: Text
    instructions: Text
    sampling: Sampling = Sampling()
    tools: tuple[dict[str, object], ...] = ()
    handoffs: tuple[AgentId, ...] = ()

    @field_validator("tools")
    @classmethod
    def _run_by_the_server(cls, tools: tuple[dict[str, object], ...]) -> tuple[dict[str, object], ...]:
        for tool in tools:
            kind = tool.get("type")
            if not kind or kind == "function":
                raise ValueError("a tool has a type and is run by the server (mcp, file_search …), never a function")
        return tools

    @property
    def transfer_name(self) -> str:
        """The name of the function that hands a conversation to this agent."""
        return TRANSFER_PREFIX + self.id.replace("-", "_")


class Agents:
    """All agents of a directory, by id."""

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self._agents = dict(agents)

    @classmethod
    def load(cls, directory: Path, environment: Mapping[str, str] = os.environ) -> Self:
        """Read every .yaml and .yml file of `directory` (a mounted ConfigMap, say).

        A model may be `${NAME}` or `${NAME:=default}`, taken from `environment`. Raises SettingError, one
        line that names file and field, for what cannot be read, an unknown key, a wrong value, a duplicate
        id, or a hand-off to nobody.
        """
        if not directory.is_dir():
            raise SettingError(f"{directory}: not a directory of agents")
        files = sorted(p for p in directory.iterdir() if p.suffix in (".yaml", ".yml") and p.is_file())
        if not files:
            raise SettingError(f"{directory}: has no agent (a .yaml file each)")
        agents: dict[str, Agent] = {}
        origin: dict[str, Path] = {}
        for path in files:
            agent = _read(path, environment)
            if agent.id in agents:
                raise SettingError(f"{path.name}: id: {agent.id} is already the id of {origin[agent.id].name}")
            agents[agent.id], origin[agent.id] = agent, path
        for agent in agents.values():
            _check_handoffs(agent, agents, origin[agent.id].name)
        return cls(agents)

    def find(self, agent_id: str) -> Agent | None:
        """Give an agent, or None if there is none of that id."""
        return self._agents.get(agent_id)

    def get(self, agent_id: str) -> Agent:
        """Give an agent. Raises SettingError if there is none of that id."""
        try:
            return self._agents[agent_id]
        except KeyError as error:
            known = ", ".join(sorted(self._agents))
            raise SettingError(f"there is no agent {agent_id!r} (DEFAULT_AGENT_ID); there are: {known}") from error

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._agents.values())

    def __len__(self) -> int:
        return len(self._agents)


def _read(path: Path, environment: Mapping[str, str]) -> Agent:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{path.name}: cannot be read ({type(error).__name__})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise SettingError(f"{path.name}: is not YAML{where}") from error
    if not isinstance(document, dict):
        raise SettingError(f"{path.name}: is not a mapping of id, description, model, instructions …")
    if isinstance(document.get("model"), str):
        document["model"] = _substitute(document["model"], environment, path.name)
    try:
        return Agent.model_validate(document)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise SettingError(f"{path.name}: {wrong}") from error


def _substitute(model: str, environment: Mapping[str, str], file: str) -> str:
    """Resolve a value that is `${NAME}` or `${NAME:=default}`; an empty variable counts as unset."""
    found = _FROM_ENVIRONMENT.fullmatch(model.strip())
    if found is None:
        return model
    value = environment.get(found[1]) or found[2]
    if not value:
        raise SettingError(f"{file}: model: the variable {found[1]} is not set and has no default")
    return value


def _check_handoffs(agent: Agent, agents: Mapping[str, Agent], file: str) -> None:
    if len(set(agent.handoffs)) < len(agent.handoffs):
        raise SettingError(f"{file}: handoffs: names an agent twice")
    for target in agent.handoffs:
        if target == agent.id:
            raise SettingError(f"{file}: handoffs: {target} is the agent itself")
        if target not in agents:
            raise SettingError(f"{file}: handoffs: there is no agent {target}")
