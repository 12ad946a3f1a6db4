"""The live numbers of the drawing by their keys, from the broker's counters and the functions' metrics.

`in:`, `delivered:`, `retried:`, `dead:`, `waiting:`, `reply:` and `handled:` with a function's name, `trigger:` with a
Trigger's, and `model`. They count since the broker, or the function, was started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from infra.local.topology import Function

Numbers = dict[str, int]

_PATIENCE = aiohttp.ClientTimeout(total=2.0)
_OURS = "/self-service-agent/"  # the source of a function's events begins so
_INGRESS = "ingress"


def from_broker(changes: Mapping[str, Any], functions: Sequence[Function]) -> Numbers:
    """What the broker counted; `changes` is its document."""
    numbers: Numbers = {f"in:{function.name}": 0 for function in functions if function.kind == "ingest"}
    # Who publishes by itself says so in its metrics: at the broker its events carry the source of whoever made them first.
    numbers |= {f"reply:{one.name}": 0 for one in functions if one.kind == "event" and "broker" not in one.needs}
    for name, counts in changes["stats"]["functions"].items():
        numbers |= {
            f"delivered:{name}": counts["delivered"],
            f"retried:{name}": counts["retried"],
            f"dead:{name}": counts["dead_lettered"],
            f"waiting:{name}": counts["waiting"],
        }
    for name, counts in changes["triggers"].items():
        numbers[f"trigger:{name}"] = counts["delivered"]
    for source, origin, number in changes["sources"]:
        key = f"reply:{origin}" if origin != _INGRESS else f"in:{source.removeprefix(_OURS)}"
        if key in numbers:
            numbers[key] += number
    return numbers


async def from_functions(client: aiohttp.ClientSession, functions: Iterable[Function], urls: Mapping[str, str]) -> Numbers:
    """What only functions count: reads, what they publish beside their replies, model calls."""
    asked = [one for one in functions if one.kind != "ingest"]
    texts = await asyncio.gather(*(_metrics(client, urls[one.name]) for one in asked))
    numbers: Numbers = {}
    for function, text in zip(asked, texts, strict=True):
        numbers |= _counted(function, text)
    return numbers


async def _metrics(client: aiohttp.ClientSession, url: str) -> str:
    try:
        async with client.get(f"{url}/metrics", timeout=_PATIENCE) as answer:
            return await answer.text() if answer.status == 200 else ""
    except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
        return ""


def _counted(function: Function, text: str) -> Numbers:
    if not text:
        return {}
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    wanted = {}
    if function.kind == "read":
        wanted[f"handled:{function.name}"] = "self_service_agent_handling_seconds_count"
    elif "broker" in function.needs:
        wanted[f"reply:{function.name}"] = "self_service_agent_events_published_total"
    if "llama-stack" in function.needs:
        wanted["model"] = "self_service_agent_model_calls_total"
    return {key: int(totals.get(name, 0)) for key, name in wanted.items()}
