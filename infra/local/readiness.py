"""Which functions are ready: what each says of itself at /health/readiness."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import aiohttp

_FRESH = 0.5  # seconds for which an answer is used again
_PATIENCE = aiohttp.ClientTimeout(total=2.0)


async def answers_200(client: aiohttp.ClientSession, url: str) -> bool:
    """Tell whether a GET of `url` is answered 200 within 2 s."""
    try:
        async with client.get(url, timeout=_PATIENCE) as response:
            await response.read()
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError, ConnectionError):
        return False


class Readiness:
    """Asks the functions at `urls` (by name), all at once, and not more often than every half second."""

    def __init__(self, client: aiohttp.ClientSession, urls: Mapping[str, str]) -> None:
        self._client = client
        self._urls = urls
        self._asked = float("-inf")
        self._known: dict[str, bool] = {}
        self._asking = asyncio.Lock()

    async def check(self) -> dict[str, bool]:
        """Give each function's readiness, at most half a second old."""
        async with self._asking:
            if time.monotonic() - self._asked > _FRESH:
                answers = await asyncio.gather(
                    *(answers_200(self._client, f"{url}/health/readiness") for url in self._urls.values())
                )
                self._known = dict(zip(self._urls, answers, strict=True))
                self._asked = time.monotonic()
            return self._known
