"""Posts one body again and again from 16 connections, prints requests a second: `python -m benchmarks.post URL BODY N`."""

from __future__ import annotations

import asyncio
import sys
import time

import aiohttp


async def run(url: str, body: bytes, requests: int) -> float:
    """Requests a second. Raises RuntimeError for any answer but 202."""
    numbers = iter(range(requests))
    headers = {"content-type": "application/json"}
    async with aiohttp.ClientSession() as http:

        async def client() -> None:
            for _ in numbers:
                async with http.post(url, data=body, headers=headers) as answer:
                    await answer.read()
                    if answer.status != 202:
                        raise RuntimeError(str(answer.status))

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(16)))
        return requests / (time.perf_counter() - started)


if __name__ == "__main__":
    print(asyncio.run(run(sys.argv[1], sys.argv[2].encode(), int(sys.argv[3]))))  # noqa: T201 - its only output
