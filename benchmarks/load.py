"""Clients of the front door: each asks, waits for its answer, and asks again. Every id is verified by its reader.

python -m benchmarks.load URL CLIENTS REQUESTS — prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp

SESSIONS = 500


async def _ask(http: aiohttp.ClientSession, url: str, number: int) -> float:
    body = {
        "user_id": f"user{number % SESSIONS}",
        "content": f"question {number}",
        "session_token": str(number % SESSIONS),
    }
    started = time.perf_counter()
    async with http.post(f"{url}/api/v1/requests/web", json=body) as accepted:
        if accepted.status != 202:
            raise RuntimeError(f"{accepted.status}: {await accepted.text()}")
        status_url = (await accepted.json())["status_url"]
    while True:
        async with http.get(f"{url}{status_url}?wait=30") as found:
            answer: dict[str, Any] = await found.json()
            if found.status == 200 and answer["status"] == "completed" and answer["response"]["content"]:
                return time.perf_counter() - started
            if found.status not in (200, 404) or answer.get("status") == "failed":
                raise RuntimeError(f"{found.status}: {answer}")


async def run(url: str, clients: int, requests: int) -> dict[str, float]:
    """Requests a second, and latencies in milliseconds. Raises RuntimeError for a request that was not answered."""
    numbers = iter(range(requests))
    latencies: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def client() -> None:
            for number in numbers:
                latencies.append(await _ask(http, url, number))

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        seconds = time.perf_counter() - started
    latencies.sort()

    def at(share: float) -> float:
        return latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000

    return {"rate": requests / seconds, "p50": at(0.5), "p95": at(0.95), "p99": at(0.99)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))  # noqa: T201 - its only output
