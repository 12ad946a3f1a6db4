"""Passing a request on to a function, and its answer back, as a gateway does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import aiohttp
from aiohttp import web
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict
from yarl import URL

from infra.local.answers import BODY_LIMIT, BodyTooLarge, problem, read_body, too_large

# RFC 9110 section 7.6.1: these are about one connection. Content-Length is written anew, Expect was answered here.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "expect",
    }
)
_WHOLE = 256 * 1024  # bytes up to which an answer of known length is passed on in one piece


def session() -> aiohttp.ClientSession:
    """Make the one client session of the front door: it adds no header of its own, keeps no cookie, follows no redirect."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),  # the functions close idle connections after 75 s
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=2),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        trust_env=False,
    )


class Proxy:
    """Passes requests on through one client session."""

    def __init__(self, client: aiohttp.ClientSession, body_limit: int = BODY_LIMIT) -> None:
        self._client = client
        self._body_limit = body_limit

    async def forward(self, request: BaseRequest, name: str, url: str) -> web.StreamResponse:
        """Send the request to `url`, the address of the function `name`, and pass its answer on.

        The method, path, query, headers and body go through as they came; X-Forwarded-For and -Proto are added.
        """
        try:
            body = await read_body(request, self._body_limit)
        except BodyTooLarge:
            return too_large(self._body_limit)
        headers = _end_to_end(request.headers.items(), request.headers.get("Connection"))
        _add_forwarded(headers, request)
        try:
            response = await self._client.request(
                request.method,
                URL(url + request.raw_path, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return _unavailable(name)
        except UnicodeError:
            return problem(400, "Malformed request", "A header cannot be read.")
        async with response:
            return await _pass_on(request, response, name)


def _end_to_end(headers: Iterable[tuple[str, str]], connection: str | None) -> CIMultiDict[str]:
    dropped = _HOP_BY_HOP
    if connection:
        dropped = dropped | {token.strip().lower() for token in connection.split(",")}
    return CIMultiDict((name, value) for name, value in headers if name.lower() not in dropped)


def _add_forwarded(headers: CIMultiDict[str], request: BaseRequest) -> None:
    before = headers.get("X-Forwarded-For")
    peer = request.remote or "unknown"
    headers["X-Forwarded-For"] = f"{before}, {peer}" if before else peer
    headers["X-Forwarded-Proto"] = request.scheme


def _unavailable(name: str) -> web.Response:
    detail = f"The function {name} does not answer now; it may be starting."
    return problem(503, "Temporarily unavailable", detail, {"Retry-After": "1"})


async def _pass_on(request: BaseRequest, response: aiohttp.ClientResponse, name: str) -> web.StreamResponse:
    headers = _end_to_end(response.headers.items(), response.headers.get("Connection"))
    length = response.content_length
    # An answer to HEAD has a length and no body.
    if request.method == "HEAD" or response.status in (204, 304) or (length is not None and length <= _WHOLE):
        try:
            body = await response.read()
        except (aiohttp.ClientError, ConnectionError):
            return _unavailable(name)
        if request.method == "HEAD" and length is not None:
            headers["Content-Length"] = str(length)
        return web.Response(status=response.status, reason=response.reason, headers=headers, body=body or None)
    answer = web.StreamResponse(status=response.status, reason=response.reason, headers=headers)
    if length is not None:
        answer.content_length = length
    await answer.prepare(request)
    try:
        async for chunk in response.content.iter_any():
            await answer.write(chunk)
        await answer.write_eof()
    except (aiohttp.ClientError, ConnectionError, asyncio.CancelledError) as error:
        # Whichever side broke off: the caller must see a cut connection, not the proper end of a shorter answer.
        if request.transport is not None:
            request.transport.abort()
        if isinstance(error, asyncio.CancelledError):
            raise
    return answer
