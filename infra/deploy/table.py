"""The topology table as a cluster needs it: each function with its Triggers, secrets, resources and times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.local.broker.triggers import parse_duration

ROOT = Path(__file__).parents[2]
NAME = "self-service-agent"  # part-of label; prefix of every Secret and ConfigMap
PREFIX = "com.self-service-agent."
PING = "dev.knative.sources.ping"  # the type of a PingSource's events
PUBLISHES = f"{NAME}/publishes"  # the label that the SinkBinding selects by

# Serving's default and func's only value; nothing we wait for may take longer (KNATIVE.md: a Trigger's timeout stays below).
LONGEST_REQUEST = 300
_SPARE = 10  # seconds between a delivery's timeout and the end of the request on the pod


class TableError(Exception):
    """The table cannot be deployed; the text is one line: which row, and why."""


@dataclass(frozen=True)
class Trigger:
    """One Trigger: its name, and the attributes that an event must have exactly."""

    name: str
    attributes: dict[str, str]


@dataclass(frozen=True)
class Function:
    """One row. `secrets` maps a variable to the Secret that holds it; `request_seconds` is Serving's timeoutSeconds."""

    name: str
    kind: str
    paths: tuple[str, ...]
    pages: tuple[str, ...]
    threads: int
    scale: dict[str, int]
    needs: tuple[str, ...]
    secrets: dict[str, str]
    triggers: tuple[Trigger, ...]
    delivery: dict[str, Any] | None
    schedule: str | None
    resources: dict[str, Any]
    request_seconds: int
    dead_letter: bool

    @property
    def publishes(self) -> bool:
        """Whether it sends events to the broker itself, beside its replies."""
        return "broker" in self.needs

    @property
    def drain_seconds(self) -> int:
        """How long the host may finish what is in flight: less than what the pod is given."""
        return self.request_seconds - 5


def load(path: Path = ROOT / "infra/topology.yaml") -> tuple[Function, ...]:
    """Every row, in the table's order.

    Raises TableError for a secret in no Secret, a delivery that outlasts a request, an event function without delivery.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(_function(str(name), row, document) for name, row in document["functions"].items())


def _function(name: str, row: Mapping[str, Any], document: Mapping[str, Any]) -> Function:
    needs = tuple(row.get("needs", ()))
    variables = [*(["POSTGRES_PASSWORD"] if "database" in needs else []), *row.get("secrets", ())]
    holders = {variable: name for name, variables in document["secrets"].items() for variable in variables}
    if unknown := [one for one in variables if one not in holders]:
        raise TableError(f"{name}: add {', '.join(unknown)} to `secrets` in infra/topology.yaml")
    delivery = row.get("delivery")
    if row.get("wakes_on") and not delivery:
        raise TableError(f"{name}: a function with a Trigger needs `delivery`")
    return Function(
        name=name,
        kind=row["kind"],
        paths=tuple(row.get("paths", ())),
        pages=tuple(row.get("pages", ())),
        threads=row.get("threads", 16),
        scale={"min": 0, "max": 20, "target": row.get("threads", 16), **row.get("scale", {})},
        needs=needs,
        secrets={one: holders[one] for one in variables},
        triggers=tuple(_trigger(name, one) for one in row.get("wakes_on", ())),
        delivery=delivery,
        schedule=row.get("schedule"),
        resources=row.get("resources", document["resources"]),
        request_seconds=_request_seconds(name, row["kind"], delivery),
        dead_letter=document["broker"]["dead_letter"] == name,
    )


def _trigger(function: str, wanted: str | Mapping[str, str]) -> Trigger:
    attributes = {"type": wanted} if isinstance(wanted, str) else dict(wanted)
    rest = [value for key, value in attributes.items() if key != "type"]
    words = [function, attributes["type"].removeprefix(PREFIX), *rest]
    return Trigger("-".join(words).replace(".", "-").replace("_", "-").lower(), attributes)


def _request_seconds(name: str, kind: str, delivery: Mapping[str, Any] | None) -> int:
    if kind == "ingest":
        return 30
    if delivery is None:
        return LONGEST_REQUEST  # a reader's stream; a scheduled sweep
    seconds = math.ceil(parse_duration(delivery["timeout"])) + _SPARE
    if seconds > LONGEST_REQUEST:
        raise TableError(f"{name}: delivery.timeout must be at most {LONGEST_REQUEST - _SPARE} s")
    return seconds
