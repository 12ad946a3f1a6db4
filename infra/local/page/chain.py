"""The chain as a drawing, from the topology table: who publishes to the broker, whom each Trigger wakes, who reads.

Two drawings, one as wide as a desktop and one as a phone. Numbers are filled in by the page: each has a key, which is also
that of the live numbers (numbers.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from infra.local.broker.triggers import Trigger
from infra.local.topology import Function

PREFIX = "com.self-service-agent."
_PING = "dev.knative.sources.ping"
_COLUMN, _BOX = 206, 188  # a column of the wide drawing and the box in it
_NARROW, _ROW = 360, 74  # the narrow drawing's width and its rows
_NOTE = 34  # characters that fit into a box of it


@dataclass(frozen=True)
class Label:
    """A number with its key and what it counts."""

    key: str
    text: str
    x: float
    y: float
    anchor: str = "start"


@dataclass(frozen=True)
class Arrow:
    """From one point to another. `key` is the number that makes it light up when it grows."""

    key: str
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Box:
    """A function, or a part that functions need (`function` is then empty)."""

    name: str
    x: float
    y: float
    width: float
    height: float
    function: bool = True
    note: str = ""


@dataclass
class Drawing:
    """What is drawn, on a ground of `width` by `height`; `bar` is the broker."""

    name: str
    width: float
    height: float
    bar: Box
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    lines: list[Arrow] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)


def draw(functions: Sequence[Function], triggers: Sequence[Trigger]) -> list[Drawing]:
    """Both drawings of these functions; `triggers` are all Triggers, and the dead-letter sink as one of its own name."""
    return [_wide(functions, triggers), _narrow(functions, triggers)]


def short(trigger: Trigger) -> str:
    """What wakes a function, in a few words."""
    kind = trigger.filter.get("type")
    if kind is None:
        return "given up on"
    others = [value for name, value in trigger.filter.items() if name != "type"]
    name = "tick of the clock" if kind == _PING else kind.removeprefix(PREFIX)
    return f"{name} ({', '.join(others)})" if others else name


def _wide(functions: Sequence[Function], triggers: Sequence[Trigger]) -> Drawing:
    ingest, events, reads = (_of(functions, kind) for kind in ("ingest", "event", "read"))
    columns = max(len(events), len(ingest), 1)
    across = columns * _COLUMN
    drawing = Drawing("wide", across + len(reads) * _COLUMN, 436, Box("Broker", 10, 126, across - 20, 34, function=False))
    for number, function in enumerate(ingest):
        middle = across * (number + 0.5) / len(ingest)
        drawing.boxes.append(Box(function.name, middle - _BOX / 2, 8, _BOX, 54))
        drawing.arrows.append(Arrow(f"in:{function.name}", middle, 64, middle, 120))
        drawing.labels.append(Label(f"in:{function.name}", "requests", middle + 10, 97))
    for number, function in enumerate(events):
        left = number * _COLUMN + (_COLUMN - _BOX) / 2
        drawing.boxes.append(Box(function.name, left, 266, _BOX, 54))
        drawing.arrows.append(Arrow(f"delivered:{function.name}", left + 14, 162, left + 14, 260))
        drawing.arrows.append(Arrow(f"reply:{function.name}", left + _BOX - 8, 264, left + _BOX - 8, 166))
        mine = [trigger for trigger in triggers if trigger.function == function.name]
        for line, trigger in enumerate(mine):
            drawing.labels.append(Label(f"trigger:{trigger.name}", short(trigger), left + 24, 183 + 16 * line))
        drawing.labels.append(Label(f"reply:{function.name}", "published", left + _BOX - 18, 251, "end"))
        _needs(drawing, function, left, 320)
    for number, function in enumerate(reads):
        left = across + number * _COLUMN + (_COLUMN - _BOX) / 2
        drawing.boxes.append(Box(function.name, left, 266, _BOX, 54))
        drawing.arrows.append(Arrow(f"handled:{function.name}", left + _BOX / 2, 126, left + _BOX / 2, 260))
        drawing.labels.append(Label(f"handled:{function.name}", "reads", left + _BOX / 2 + 10, 183))
        _needs(drawing, function, left, 320)
    database = [line.x1 for line in drawing.lines if line.key == "database"]
    if database:
        first, last = min(database) - 24, max(database) + 24
        drawing.boxes.append(Box("PostgreSQL", first, 396, last - first, 32, function=False))
    return drawing


def _needs(drawing: Drawing, function: Function, left: float, top: float) -> None:
    """Lines to what a function needs beside the broker."""
    if "database" in function.needs:
        drawing.lines.append(Arrow("database", left + 40, top, left + 40, 396))
    if "llama-stack" in function.needs:
        drawing.arrows.append(Arrow("model", left + 116, top + 2, left + 116, 344))
        drawing.boxes.append(Box("Llama Stack", left + 62, 348, _BOX - 62, 30, function=False))
        drawing.labels.append(Label("model", "calls", left + 126, 338))


def _narrow(functions: Sequence[Function], triggers: Sequence[Trigger]) -> Drawing:
    ordered = [function for kind in ("ingest", "event", "read") for function in _of(functions, kind)]
    bound = len(ordered) - len(_of(functions, "read"))
    bar = Box("Broker", 6, 6, 34, bound * _ROW - 14, function=False)
    drawing = Drawing("narrow", _NARROW, len(ordered) * _ROW, bar)
    for number, function in enumerate(ordered):
        top = number * _ROW + 6
        mine = [short(trigger) for trigger in triggers if trigger.function == function.name]
        kinds = ", ".join(dict.fromkeys(one.partition(" (")[0] for one in mine))
        note = kinds if len(kinds) <= _NOTE else f"{kinds[:_NOTE].rpartition(',')[0]}, …"
        drawing.boxes.append(Box(function.name, 130, top, 224, 60, note=note))
        if function.kind == "event":
            drawing.arrows.append(Arrow(f"delivered:{function.name}", 44, top + 20, 124, top + 20))
            drawing.labels.append(Label(f"delivered:{function.name}", "", 84, top + 14, "middle"))
            drawing.arrows.append(Arrow(f"reply:{function.name}", 126, top + 46, 46, top + 46))
            drawing.labels.append(Label(f"reply:{function.name}", "", 84, top + 60, "middle"))
        elif function.kind == "ingest":
            drawing.arrows.append(Arrow(f"in:{function.name}", 126, top + 30, 46, top + 30))
            drawing.labels.append(Label(f"in:{function.name}", "", 84, top + 23, "middle"))
        else:
            drawing.arrows.append(Arrow(f"handled:{function.name}", 60, top + 30, 124, top + 30))
            drawing.labels.append(Label(f"handled:{function.name}", "reads", 50, top + 23))
    return drawing


def _of(functions: Sequence[Function], kind: str) -> list[Function]:
    return [function for function in functions if function.kind == kind]
