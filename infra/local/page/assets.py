"""The page's own files, and what a browser is told about them: nothing from elsewhere, no script but our files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from aiohttp import web
from aiohttp.web_request import BaseRequest

from infra.cli.page import HERE as CLI
from infra.local.answers import problem

HERE = Path(__file__).parent / "files"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_NAME = re.compile(r"[a-z]+\.[a-z]+")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def asset(request: BaseRequest, name: str) -> web.Response:
    """A file of the page, or 404. It is read anew each time: who works on it reloads."""
    content_type = _TYPES.get(Path(name).suffix)
    path = (CLI if name == "trace.css" else HERE) / name
    if content_type is None or not _NAME.fullmatch(name) or not path.is_file():
        return problem(404, "Not found", "There is no such file.")
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {**HEADERS, "Cache-Control": "no-cache", "ETag": etag}
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=content, headers=headers, content_type=content_type, charset="utf-8")


def html(text: str, status: int = 200) -> web.Response:
    """A page that no cache keeps."""
    headers = {**HEADERS, "Cache-Control": "no-store", "Vary": "Accept"}
    return web.Response(text=text, status=status, headers=headers, content_type="text/html", charset="utf-8")
