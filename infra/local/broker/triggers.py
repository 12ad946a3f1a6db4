"""Triggers, read from the topology table: who wants which event, and how hard its delivery is tried."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from yarl import URL

from infra.local.broker.cloudevent import CloudEvent

DEFAULT_TIMEOUT = 600.0  # seconds; the longest that Knative Serving lets a request run
_MAX_EXPONENT = 40  # delay x 2^40 is for ever; beyond it a float would overflow

_DURATION = re.compile(
    r"P(?:(?P<weeks>\d+(?:\.\d+)?)W)?(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_UNITS = {"weeks": 604800.0, "days": 86400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}
_DELIVERY_KEYS = frozenset({"retry", "backoffPolicy", "backoffDelay", "timeout"})


class TopologyError(Exception):
    """The table, or a subscriber given for it, cannot be used; the text is one line: where, and why."""


@dataclass(frozen=True, slots=True)
class DeliverySpec:
    """How one Trigger's deliveries are tried (Knative's DeliverySpec).

    `retry` counts the tries after the first. `delay` and `timeout` are seconds; `timeout` is for one try.
    """

    retry: int = 0
    policy: str = "exponential"
    delay: float = 0.0
    timeout: float = DEFAULT_TIMEOUT

    def backoff(self, attempt_num: int) -> float:
        """Return the seconds to wait after try number `attempt_num`, which counts from 0.

        So the first wait is `delay` (exponential) or nothing (linear), as in knative/eventing
        pkg/kncloudevents/retries.go under hashicorp/go-retryablehttp, whose first attemptNum is 0.
        """
        if self.policy == "linear":
            return self.delay * attempt_num
        return self.delay * 2.0 ** min(attempt_num, _MAX_EXPONENT)


@dataclass(frozen=True, slots=True)
class Trigger:
    """One subscription: events whose attributes match `filter` go to `url`, a function's address."""

    name: str
    function: str
    url: URL
    filter: Mapping[str, str]
    delivery: DeliverySpec

    def wants(self, event: CloudEvent) -> bool:
        """Tell whether the event has every attribute of the filter with exactly that value; "" is any value.

        Source of the rule: knative/eventing pkg/eventfilter/attributes.
        """
        for name, value in self.filter.items():
            have = event.get(name)
            if not have or (value and have != value):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Topology:
    """All Triggers, and the dead-letter sink that stands behind each of them."""

    triggers: tuple[Trigger, ...]
    dead_letter: Trigger


def parse_duration(text: str) -> float:
    """Return the seconds of an ISO 8601 duration (PT0.2S, PT5M, P1DT1H) without years and months.

    Raises ValueError for anything else.
    """
    match = _DURATION.fullmatch(text)
    found = match.groupdict().items() if match else ()
    parts = [float(part) * _UNITS[unit] for unit, part in found if part is not None]
    if not parts:
        raise ValueError(f"{text!r} is not an ISO 8601 duration of weeks, days, hours, minutes or seconds")
    return sum(parts)


def load_topology(path: Path, subscribers: Mapping[str, str]) -> Topology:
    """Read the Triggers of the table at `path`; `subscribers` gives each event function's URL by its name.

    Raises TopologyError when the table cannot be read or is wrong in a part that is needed here, when a
    Trigger's function has no subscriber, and when a subscriber is given for a function that is not in the table.
    """
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TopologyError(f"{path}: cannot be read ({type(error).__name__})") from error
    except yaml.YAMLError as error:
        raise TopologyError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    try:
        return _topology(_mapping(table, "the table"), subscribers)
    except TopologyError as error:
        raise TopologyError(f"{path}: {error}") from error


def _topology(table: Mapping[str, object], subscribers: Mapping[str, str]) -> Topology:
    prefix = _text(table.get("event_prefix", ""), "event_prefix")
    functions = {
        name: _mapping(entry, f"functions.{name}") for name, entry in _mapping(table.get("functions"), "functions").items()
    }
    for name in subscribers:
        if name not in functions:
            raise TopologyError(f"functions.{name}: is not in the table, but a subscriber was given for it")
    triggers: dict[str, Trigger] = {}
    for function, entry in functions.items():
        types = entry.get("wakes_on") or []
        where = f"functions.{function}.wakes_on"
        if not isinstance(types, list):
            raise TopologyError(f"{where}: must be a list of event types")
        if types and entry.get("kind") != "event":
            raise TopologyError(f"{where}: only a function of kind event can be woken")
        for number, woken_by in enumerate(types):
            attributes = _filter(woken_by, f"{where}[{number}]")
            others = [one for name, one in attributes.items() if name != "type"]
            short = "-".join([attributes["type"].removeprefix(f"{prefix}."), *others]).replace(".", "-")
            trigger = _trigger(f"{function}-{short}", function, entry, subscribers, attributes)
            if triggers.setdefault(trigger.name, trigger) is not trigger:
                raise TopologyError(f"{where}[{number}]: makes a second Trigger {trigger.name}")
    sink = _text(_mapping(table.get("broker"), "broker").get("dead_letter"), "broker.dead_letter")
    if sink not in functions:
        raise TopologyError(f"broker.dead_letter: {sink!r} is not one of the functions")
    return Topology(tuple(triggers.values()), _trigger(sink, sink, functions[sink], subscribers, {}))


def _filter(value: object, where: str) -> Mapping[str, str]:
    """Give the attributes of a Trigger's filter: an event type alone, or a table of attributes with a type among them."""
    table = value if isinstance(value, dict) else {"type": value}
    attributes = {str(name): _text(one, where) for name, one in table.items()}
    if not attributes.get("type"):
        raise TopologyError(f"{where}: must not be empty" if "type" in attributes else f"{where}: must have a type")
    return attributes


def _trigger(
    name: str,
    function: str,
    entry: Mapping[str, object],
    subscribers: Mapping[str, str],
    attributes: Mapping[str, str],
) -> Trigger:
    if function not in subscribers:
        raise TopologyError(f"functions.{function}: has no subscriber; add --subscriber {function}=URL")
    delivery = _delivery(entry.get("delivery"), f"functions.{function}.delivery")
    return Trigger(name, function, _url(subscribers[function], f"functions.{function}"), attributes, delivery)


def _url(text: str, where: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise TopologyError(f"{where}: its subscriber {text!r} is not an http(s) URL")
    return url


def _delivery(value: object, where: str) -> DeliverySpec:
    entry = _mapping({} if value is None else value, where)
    for key in entry:
        if key not in _DELIVERY_KEYS:
            raise TopologyError(f"{where}.{key}: is not known; known are {', '.join(sorted(_DELIVERY_KEYS))}")
    retry = entry.get("retry", 0)
    if not isinstance(retry, int) or isinstance(retry, bool) or retry < 0:
        raise TopologyError(f"{where}.retry: must be a whole number, 0 or more")
    policy = entry.get("backoffPolicy", "exponential")
    if policy not in ("linear", "exponential"):
        raise TopologyError(f"{where}.backoffPolicy: must be linear or exponential")
    if ("backoffPolicy" in entry) != ("backoffDelay" in entry):
        # Knative takes one alone, and then does not wait at all.
        raise TopologyError(f"{where}: backoffPolicy and backoffDelay go together")
    delay = _seconds(entry.get("backoffDelay", "PT0S"), f"{where}.backoffDelay")
    timeout = _seconds(entry.get("timeout", "PT0S"), f"{where}.timeout")
    return DeliverySpec(retry=retry, policy=str(policy), delay=delay, timeout=timeout or DEFAULT_TIMEOUT)


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise TopologyError(f"{where}: must be a mapping of names")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise TopologyError(f"{where}: must be text")
    return value


def _seconds(value: object, where: str) -> float:
    try:
        return parse_duration(_text(value, where))
    except ValueError as error:
        raise TopologyError(f"{where}: {error}") from error
