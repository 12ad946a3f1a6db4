"""The page that people chat on: static files, and a document that carries who its reader is."""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path

from flask import Request, Response
from werkzeug.exceptions import MethodNotAllowed

from common.auth import Authenticator
from common.errors import NotFound, Unauthenticated

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}
_NAME = re.compile(r"[a-z]+(\.LICENSE)?\.[a-z]+")

_HEADERS = {
    # Scripts only from our own files, HTML from strings never: what a model or a person writes cannot run.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Page:
    """Serves the files of `directory`, each read once, when it is first asked for."""

    def __init__(self, directory: Path, callers: Authenticator) -> None:
        self._directory = directory
        self._callers = callers
        self._files: dict[str, bytes] = {}

    def answer(self, request: Request) -> Response:
        """The page or one of its files.

        Raises NotFound for any other file, MethodNotAllowed for the page when the caller does not ask for HTML.
        """
        asset = (request.view_args or {}).get("asset")
        if asset is not None:
            return self._asset(request, asset)
        if "text/html" not in request.headers.get("Accept", ""):
            raise MethodNotAllowed(valid_methods=["POST"])
        try:
            user_id = self._callers.identify(request).user_id or ""
        except Unauthenticated:
            return _html(self._file("signed-out.html"), 401)
        # The only thing in it that is not ours, in an attribute's value.
        return _html(self._file("index.html").replace(b"{{user_id}}", html.escape(user_id).encode()), 200)

    def _asset(self, request: Request, name: str) -> Response:
        content_type = _TYPES.get(Path(name).suffix)
        if content_type is None or not _NAME.fullmatch(name):
            raise NotFound("There is no such file.")
        content = self._file(name)
        response = Response(content, 200, _HEADERS, content_type=f"{content_type}; charset=utf-8")
        response.cache_control.no_cache = True  # kept, and asked for again: a new version is there at once
        response.set_etag(hashlib.sha256(content).hexdigest()[:16])
        response.make_conditional(request)
        return response

    def _file(self, name: str) -> bytes:
        content = self._files.get(name)
        if content is None:
            try:
                content = (self._directory / name).read_bytes()
            except FileNotFoundError:
                raise NotFound("There is no such file.") from None
            self._files[name] = content
        return content


def _html(content: bytes, status: int) -> Response:
    headers = {**_HEADERS, "Cache-Control": "no-store", "Vary": "Accept"}
    return Response(content, status, headers, content_type="text/html; charset=utf-8")
