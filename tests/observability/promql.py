"""As much of PromQL as tests need to know: which series an expression reads. Whether it is PromQL, promtool says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_SELECTOR = re.compile(r"\b((?:self_service_agent|process)_\w+)\s*(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")


@dataclass(frozen=True)
class Use:
    """One metric in an expression: labels that must be there, and those of them with the one value they must have."""

    metric: str
    labels: frozenset[str]
    values: tuple[tuple[str, str], ...] = field(default=())


def uses(expression: str) -> list[Use]:
    """Every metric that `expression` reads. A grouping's labels count for each metric in it."""
    grouped = {label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",")} - {""}
    found = []
    for metric, matchers in _SELECTOR.findall(expression):
        matched = _MATCHER.findall(matchers)
        found.append(
            Use(
                metric,
                frozenset({label for label, _, _ in matched} | grouped),
                tuple((label, value) for label, operator, value in matched if operator == "=" and value),
            )
        )
    return found
