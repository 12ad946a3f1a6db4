"""The one address of the platform: what a gateway would route, and what the platform says about itself."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import web
from aiohttp.web_request import BaseRequest

from infra.local.answers import problem
from infra.local.failure import PlatformError
from infra.local.proxy import Proxy
from infra.local.topology import Function

Handler = Callable[[BaseRequest, str], Awaitable[web.StreamResponse]]

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def listen(host: str, port: int) -> socket.socket:
    """Take the front door's address. Raises PlatformError with one line that names the variable to change."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise PlatformError(f"HOST {host} is no address of this machine") from None
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PlatformError(f"PORT {port} is taken by another program: stop it, or set PORT to another number") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise PlatformError(f"HOST {host} is no address of this machine") from None
        raise PlatformError(f"PORT {port} cannot be used on {host}: {error.strerror}") from None
    listener.setblocking(False)
    return listener


def origin_of(listener: socket.socket) -> str:
    """Give the address at which this machine reaches a front door (http://127.0.0.1:8080)."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Tell whether only this machine reaches the front door."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


class Routes:
    """Which function a path belongs to, as the topology table says. `urls` are the functions' addresses by name."""

    def __init__(self, functions: Sequence[Function], urls: Mapping[str, str]) -> None:
        self._exact: dict[str, tuple[str, str]] = {}
        self._below: list[tuple[str, str, str]] = []
        self._pages: list[tuple[str, str, str]] = []
        for function in functions:
            self._pages += [(path, function.name, urls[function.name]) for path in function.pages]
            for path in function.paths:
                if function.kind == "ingest":
                    self._exact[path] = (function.name, urls[function.name])
                elif function.kind == "read":
                    self._below.append((path, function.name, urls[function.name]))
        self._below.sort(key=lambda row: len(row[0]), reverse=True)  # the longest path wins
        self._parents = {path.rpartition("/")[0] for path in self._exact}

    def find(self, method: str, path: str) -> tuple[str, str] | web.Response:
        """Give the name and address of the function that is to answer, or the answer when there is none."""
        if path in self._exact:
            return self._exact[path]
        for page, name, url in self._pages:
            if method in _READING and (path == page or (page != "/" and path.startswith(f"{page}/"))):
                return name, url
        for prefix, name, url in self._below:
            if path == prefix or path.startswith(f"{prefix}/"):
                if method in _READING:
                    return name, url
                if path.rpartition("/")[0] in self._parents:
                    return problem(404, "Not found", "There is no integration of that name.")
                return problem(405, "Method not allowed", "This path is only read.", {"Allow": "GET, HEAD"})
        return problem(404, "Not found", "There is nothing at this path.")


class FrontDoor:
    """Serves a listening socket until `close`. `platform` answers /health and everything below /_platform."""

    def __init__(self, routes: Routes, proxy: Proxy, platform: Handler) -> None:
        self._routes = routes
        self._proxy = proxy
        self._platform = platform
        self._runner: web.ServerRunner | None = None
        self._site: web.SockSite | None = None

    async def open(self, listener: socket.socket) -> None:
        """Begin to serve."""
        # A caller that goes away ends its long poll or stream, and with it the function's work for it.
        server = web.Server(self._answer, handler_cancellation=True, access_log=None, keepalive_timeout=75)
        self._runner = web.ServerRunner(server, shutdown_timeout=2.0)
        await self._runner.setup()
        self._site = web.SockSite(self._runner, listener)
        await self._site.start()

    async def close(self) -> None:
        """Stop accepting, give the requests in flight 2 s, cut the rest."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if path == "/health" or path == "/_platform" or path.startswith("/_platform/"):
            return await self._platform(request, path)
        found = self._routes.find(request.method, path)
        if isinstance(found, web.Response):
            return found
        return await self._proxy.forward(request, *found)
