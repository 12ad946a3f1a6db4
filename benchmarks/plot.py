"""Curves as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import leather

_WIDTH, _HEIGHT = 1200, 360


def chain(path: Path, found: Mapping[int, Mapping[str, float]]) -> None:
    """Rate and latency over the number of clients, side by side."""
    grid = leather.Grid()
    rate = _chart("The whole chain: requests a second", found)
    rate.add_line([(clients, figures["rate"]) for clients, figures in found.items()], name="requests/s")
    rate.add_y_scale(0, 1.1 * max(figures["rate"] for figures in found.values()))
    latency = _chart("…and how long a request takes, in milliseconds", found)
    for name in ("p50", "p95", "p99"):
        latency.add_line([(clients, figures[name]) for clients, figures in found.items()], name=name)
    latency.add_y_scale(0, 1.1 * max(figures["p99"] for figures in found.values()))
    grid.add_one(rate)
    grid.add_one(latency)
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.to_svg(str(path), _WIDTH, _HEIGHT)


def _chart(title: str, found: Mapping[int, object]) -> leather.Chart:
    chart = leather.Chart(title)
    chart.add_x_scale(0, max(found))
    chart.add_x_axis(ticks=list(found), name="clients")
    return chart
