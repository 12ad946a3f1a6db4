"""What a panel of the dashboard is, and the PromQL that panels are made of."""

from __future__ import annotations

from dataclasses import dataclass

WHERE = 'namespace=~"$namespace"'
_RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Panel:
    """One graph, or with `now` one number. `queries` are PromQL and the legend of its series; `unit` is Grafana's."""

    title: str
    about: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    now: bool = False


@dataclass(frozen=True)
class Row:
    """The panels of one stage."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str, matching: str = "") -> str:
    """Events per second of a counter, summed over pods."""
    return f"sum by ({by}) (rate({metric}{{{WHERE}{matching and ', ' + matching}}}{_RATE}))"


def quantiles(histogram: str, by: str = "", matching: str = "") -> tuple[tuple[str, str], ...]:
    """p50, p95 and p99 of a histogram, or with `by` the p95 of each value of that label."""
    labels = f"le, {by}" if by else "le"
    buckets = rate(f"{histogram}_bucket", labels, matching)
    if by:
        return ((f"histogram_quantile(0.95, {buckets})", f"p95 {{{{{by}}}}}"),)
    return tuple((f"histogram_quantile({q}, {buckets})", f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99))


def newest(gauge: str, by: str = "", matching: str = "") -> str:
    """A gauge that is the same whichever pod shows it: the largest, as two may have been scraped at different times."""
    return f"max{by and f' by ({by})'} ({gauge}{{{WHERE}{matching and ', ' + matching}}})"


def handled(title: str, functions: str) -> tuple[Panel, ...]:
    """Traffic, errors and latency of the functions that match a pattern."""
    name, matching = "self_service_agent_handling_seconds", f'function=~"{functions}"'
    return (
        Panel(
            f"{title}: requests and events",
            "By function and answer. 409 and 503 come again by the broker; 500 is a defect.",
            "reqps",
            ((rate(f"{name}_count", "function, status", matching), "{{function}} {{status}}"),),
        ),
        Panel(
            f"{title}: time", "From the arrival in the handler to the answer.", "s", quantiles(name, "function", matching)
        ),
    )
