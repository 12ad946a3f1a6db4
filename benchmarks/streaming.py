"""From the model's first word to the reader's first byte, beside reading the model's endpoint itself.

The endpoint writes into each word when it sent it, so that nothing but one machine's clock is compared.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from statistics import median, quantiles
from typing import Any

import aiohttp

from benchmarks.platform import Platform, platform
from benchmarks.results import Line

REQUESTS, READERS = 60, 4
PIECES, EVERY = 4, 0.2
THINKING = 0.4  # seconds before the first word, as of a real model: the reader follows by then
_SENT = re.compile(r"(\d{10}\.\d{6})")


def measure(requests: int = REQUESTS) -> list[Line]:
    """Readers follow a request's stream from when it is accepted; the first word of each answer is timed."""
    with platform("--delay", str(THINKING), "--pieces", str(PIECES), "--every", str(EVERY)) as running:
        asyncio.run(_all(running, 2 * READERS))  # warm
        ours, raw = asyncio.run(_all(running, requests))
    cuts = quantiles(ours, n=100)
    return [
        Line("first word, model to reader of the endpoint itself: p50", median(raw), "ms"),
        Line("first word, model to reader over the chain: p50", median(ours), "ms"),
        Line("first word, model to reader over the chain: p99", cuts[98], "ms"),
        Line("…above reading the endpoint itself: p50", median(ours) - median(raw), "ms"),
    ]


async def _all(running: Platform, requests: int) -> tuple[list[float], list[float]]:
    numbers = iter(range(requests))
    ours: list[float] = []
    raw: list[float] = []
    async with aiohttp.ClientSession() as http:

        async def reader() -> None:
            for number in numbers:
                ours.append(await _over_chain(http, running.url, number))
                raw.append(await _endpoint(http, running.stack))

        await asyncio.gather(*(reader() for _ in range(READERS)))
    return ours, raw


async def _over_chain(http: aiohttp.ClientSession, url: str, number: int) -> float:
    body = {"user_id": f"reader{number % 20}", "content": "hello", "session_token": "streaming"}
    async with http.post(f"{url}/api/v1/requests/web", json=body) as accepted:
        status_url = (await accepted.json())["status_url"]
    async with http.get(f"{url}{status_url}/events") as stream:
        late = await _first_word(stream)
    async with http.get(f"{url}{status_url}?wait=30") as found:
        answer: dict[str, Any] = await found.json()
        if answer["status"] != "completed" or len(_SENT.findall(answer["response"]["content"])) != PIECES:
            raise RuntimeError(f"not the whole answer: {answer}")
    return late


async def _endpoint(http: aiohttp.ClientSession, url: str) -> float:
    body = {"model": "m", "input": "hello", "stream": True}
    async with http.post(f"{url}/v1/openai/v1/responses", data=json.dumps(body)) as stream:
        return await _first_word(stream)


async def _first_word(stream: aiohttp.ClientResponse) -> float:
    """Milliseconds from when the first word was sent until it was here."""
    seen = ""
    async for piece, _ in stream.content.iter_chunks():
        now = time.time()
        seen += piece.decode(errors="replace")
        sent = _SENT.search(seen)
        if sent:
            return (now - float(sent[1])) * 1000
    raise RuntimeError(f"{stream.status}: no word came: {seen[:200]!r}")
