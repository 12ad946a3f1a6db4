"""One try of a delivery: an HTTP POST in binary mode on kept-open connections."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from common import settings
from infra.local.broker.answers import MAX_EVENT_BYTES, Answer

# Shorter than waitress keeps an idle connection (120 s), or we would post into one that is being closed.
_KEEP_OPEN = 60.0
_NO_HEADERS: Mapping[str, str] = {}
# aiohttp would add these; a subscriber is to see the event's headers and no others.
_SKIPPED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Sender:
    """The broker's HTTP client; use it as an async context manager."""

    def __init__(self) -> None:
        token = settings.mounted("EVENTS_TOKEN")
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"} if token else None,
            # The Triggers bound how many requests there are at once; the connector need not.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_OPEN),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_SKIPPED,
            auto_decompress=False,
            read_bufsize=MAX_EVENT_BYTES,
        )
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(self, url: URL, headers: Mapping[str, str], data: bytes, timeout: float) -> Answer:
        """POST once and return the answer, in `timeout` seconds for the whole of it; follow no redirect."""
        limit = self._timeouts.get(timeout)
        if limit is None:
            limit = self._timeouts[timeout] = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.post(url, headers=headers, data=data, allow_redirects=False, timeout=limit) as response:
                body, cut = await _read(response)
                return Answer(response.status, response.headers, body, cut)
        except TimeoutError:
            return Answer(None, _NO_HEADERS, f"dispatch error: no answer within {timeout:g} s".encode())
        except aiohttp.ClientConnectorError:
            return Answer(None, _NO_HEADERS, b"dispatch error: no connection")
        except aiohttp.ClientError:
            return Answer(None, _NO_HEADERS, b"dispatch error: the connection broke off")


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """Read the body up to the limit; a connection with more than that on it is not used again."""
    length = response.content_length
    if length is not None and length <= MAX_EVENT_BYTES:
        return await response.read(), False
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_EVENT_BYTES:
            response.close()
            return bytes(body), True
    return bytes(body), False
