"""POST to a URL that somebody configured, without being led anywhere else (OWASP: server-side request forgery).

The host is looked up once, every address found must be public, and the connection goes to such an address: a name that
resolves differently a moment later changes nothing. TLS still proves the name. Redirects are answers, never followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import posixpath
import re
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from channel import Refused

from common.errors import SettingError, Unavailable

_PORTS = {"http": 80, "https": 443}
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_CONNECT_SECONDS = 5.0
_MAX_BODY = 64 * 1024  # of an answer; nobody reads it, but a receiver may mind a connection cut in the middle
_IPV6_UNICAST = ipaddress.ip_network("2000::/3")  # the only one given to machines of the internet (RFC 4291)
# Global by the letter and not a receiver of ours: for protocols (clouds serve metadata there), 6to4 and its relays.
_SPECIAL = [ipaddress.ip_network(one) for one in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16")]


@dataclass(frozen=True)
class Reply:
    """What the receiver answered. `headers` are found by any case."""

    status: int
    headers: http.client.HTTPMessage


@dataclass(frozen=True)
class _Target:
    scheme: str
    host: str
    port: int
    path: str
    query: str

    @classmethod
    def of(cls, url: str) -> _Target:
        """The parts of an absolute http or https URL of printable ASCII, without user, password or fragment.

        Raises ValueError for anything else.
        """
        if not _PRINTABLE.fullmatch(url) or "\\" in url:
            raise ValueError("not plain")
        parts: SplitResult = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or parts.fragment or parts.port == 0:
            raise ValueError("not absolute")
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], parts.path or "/", parts.query)

    def is_below(self, prefix: _Target) -> bool:
        """Whether this has the prefix's origin, and its path is the prefix's or below it."""
        if (self.scheme, self.host, self.port) != (prefix.scheme, prefix.host, prefix.port):
            return False
        # A receiver may resolve `..`, also written %2e%2e: compare what it will see.
        path = posixpath.normpath(unquote(self.path))
        base = posixpath.normpath(unquote(prefix.path)).rstrip("/")
        return path == base or path.startswith(f"{base}/")


class SafeHttp:
    """Sends. `allowed`: URL prefixes that may be plain http or lead to private addresses; `seconds` bounds a whole exchange.

    Raises SettingError when a prefix is no URL.
    """

    def __init__(self, allowed: Sequence[str], *, seconds: float = 20.0, tls: ssl.SSLContext | None = None) -> None:
        try:
            self._allowed = [_Target.of(one) for one in allowed]
        except ValueError:
            raise SettingError("WEBHOOK_URLS_ALLOWED must be http or https URLs, separated by commas") from None
        self._seconds = seconds
        self._tls = tls or ssl.create_default_context()

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """POST once; the answer's status and headers.

        Raises Refused when the URL may not be sent to, Unavailable when no answer came in time.
        """
        try:
            target = _Target.of(url)
        except ValueError:
            raise Refused("The webhook's URL is not an https URL.") from None
        trusted = any(target.is_below(one) for one in self._allowed)
        if not trusted and target.scheme != "https":
            raise Refused("The webhook's URL must be https.")
        addresses = _resolve(target)
        if not trusted and not all(is_public(one) for one in addresses):
            raise Refused("The webhook's URL leads to an address that is not public.")
        try:
            return self._exchange(_connect(addresses, target.port), target, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable("The webhook does not answer.") from error

    def _exchange(self, connected: socket.socket, target: _Target, body: bytes, headers: Mapping[str, str]) -> Reply:
        # A socket's own timeout begins anew with every byte that trickles in; the watchdog's does not.
        connected.settimeout(self._seconds)
        handle, late = connected.dup(), threading.Event()
        watchdog = threading.Timer(self._seconds, _cut, (handle, late))
        watchdog.daemon = True
        watchdog.start()
        try:
            with self._secured(connected, target) as sock:
                connection = http.client.HTTPConnection(target.host, target.port)
                connection.auto_open = 0  # never again by name
                connection.sock = sock
                path = f"{target.path}?{target.query}" if target.query else target.path
                connection.request("POST", path, body, {"Host": _host_header(target), **headers})
                with connection.getresponse() as response:
                    response.read(_MAX_BODY)
                    if late.is_set():  # the library takes a connection cut off for the end of the answer
                        raise TimeoutError
                    return Reply(response.status, response.headers)
        finally:
            watchdog.cancel()
            handle.close()

    def _secured(self, connected: socket.socket, target: _Target) -> socket.socket:
        if target.scheme == "http":
            return connected
        return self._tls.wrap_socket(connected, server_hostname=target.host)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the internet: not loopback, private, link-local, shared (CGNAT), multicast …"""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.version == 6 and ip not in _IPV6_UNICAST:
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or any(ip in network for network in _SPECIAL))


def _resolve(target: _Target) -> list[str]:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable("The webhook's host cannot be found.") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _connect(addresses: Sequence[str], port: int) -> socket.socket:
    """A connection to the first address that takes one. Raises OSError when none does."""
    for last, address in enumerate(addresses, 1 - len(addresses)):
        try:
            return socket.create_connection((address, port), timeout=_CONNECT_SECONDS)
        except OSError:
            if last == 0:
                raise
    raise OSError("no address")


def _cut(handle: socket.socket, late: threading.Event) -> None:
    late.set()
    try:
        handle.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is closed already
        return


def _host_header(target: _Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return host if target.port == _PORTS[target.scheme] else f"{host}:{target.port}"
