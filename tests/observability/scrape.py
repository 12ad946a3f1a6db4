"""One reading of a function's /metrics."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.parts.functions import Function


class Scrape:
    """What a function shows now. Names are written without `self_service_agent_`."""

    def __init__(self, function: Function) -> None:
        answer = function.get("/metrics")
        assert answer.status == 200
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.body.decode())
            for sample in family.samples
        }

    def value(self, name: str, /, **labels: str) -> float | None:
        """A series' value; None when there is no such series."""
        return self._samples.get((f"self_service_agent_{name}", frozenset(labels.items())))

    def labels(self, name: str) -> list[dict[str, str]]:
        """The labels of every series of that name."""
        return [dict(labels) for known, labels in self._samples if known == f"self_service_agent_{name}"]


def grown(function: Function, before: Scrape, name: str, /, **labels: str) -> float:
    """How much a series has grown since `before`."""
    return (Scrape(function).value(name, **labels) or 0.0) - (before.value(name, **labels) or 0.0)
