"""Who may use what is below /_platform: people and programs of this machine, and no page of another site in their browser.

A site that a person visits can have their browser send requests to 127.0.0.1. It cannot read the answers, unless its own
name leads there (DNS rebinding), which the Host header gives away; and what it posts says where it came from (Fetch
Metadata, https://www.w3.org/TR/fetch-metadata/, and RFC 6454's Origin).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp.web_request import BaseRequest


def names_this_machine(host: str | None, names: Collection[str] = ()) -> bool:
    """Whether a Host header is an address, which no other name can stand for, `localhost`, or one of `names`."""
    try:
        name = urlsplit(f"//{host or ''}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return True
    return _address(name) is not None


def is_from_here(request: BaseRequest) -> bool:
    """Whether the other end of the connection is on this machine."""
    address = _address(request.remote or "")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def is_foreign(request: BaseRequest) -> bool:
    """Whether a browser says that a page of another site sends this."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("Host")


def is_own_page(request: BaseRequest) -> bool:
    """Whether a browser says that our own page sends this. Who says nothing is not believed."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    return (site is not None or origin is not None) and site != "none" and not is_foreign(request)


def wants_html(accept: str | None) -> bool:
    """Whether an Accept header prefers HTML to JSON, as browsers' do; `*/*` prefers neither (RFC 9110, 12.5.1)."""
    weights = dict(_weights(accept or ""))
    html = weights.get("text/html", 0.0)
    other = max((weights.get(name, 0.0) for name in ("application/json", "application/*", "*/*")), default=0.0)
    return html > other


def _weights(accept: str) -> list[tuple[str, float]]:
    found = []
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        try:
            found.append((name, float(weight)))
        except ValueError:
            continue
    return found


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
