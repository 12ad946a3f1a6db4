"""Clients of the front door: each asks, waits for its answer, and asks again. Every id is verified by its reader.

python -m benchmarks.load URL CLIENTS REQUESTS [REQUESTS A SECOND] — prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp

SESSIONS = 500


async def _ask(http: aiohttp.ClientSession, url: str, number: int) -> tuple[float, str]:
    body = {
        "user_id": f"user{number % SESSIONS}",
        "content": f"question {number}",
        "session_token": str(number % SESSIONS),
    }
    started = time.perf_counter()
    async with http.post(f"{url}/api/v1/requests/web", json=body) as accepted:
        if accepted.status != 202:
            raise RuntimeError(f"{accepted.status}: {await accepted.text()}")
        request: dict[str, str] = await accepted.json()
    while True:
        async with http.get(f"{url}{request['status_url']}?wait=30") as found:
            answer: dict[str, Any] = await found.json()
            if found.status == 200 and answer["status"] == "completed" and answer["response"]["content"]:
                if answer["request_id"] != request["request_id"]:
                    raise RuntimeError(f"the answer to another request: {answer}")
                return time.perf_counter() - started, request["request_id"]
            if found.status not in (200, 404) or answer.get("status") == "failed":
                raise RuntimeError(f"{found.status}: {answer}")


async def run(url: str, clients: int, requests: int, rate: float = 0) -> dict[str, Any]:
    """Requests a second, latencies in milliseconds, and the ids.

    `rate` above 0: at most so many requests a second. Raises RuntimeError for a request that was not answered.
    """
    numbers = iter(range(requests))
    latencies: list[float] = []
    ids: list[str] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def client() -> None:
            for number in numbers:
                if rate:
                    await asyncio.sleep(started + number / rate - time.perf_counter())
                latency, request_id = await _ask(http, url, number)
                latencies.append(latency)
                ids.append(request_id)

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        seconds = time.perf_counter() - started
    latencies.sort()

    def at(share: float) -> float:
        return latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000

    return {"rate": requests / seconds, "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "ids": ids}


if __name__ == "__main__":
    at_most = float(sys.argv[4]) if len(sys.argv) > 4 else 0
    print(json.dumps(asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), at_most))))  # noqa: T201 - its only output
