"""The server as the command talks to it: each call gives a document or raises a CliError that says what to do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError

from infra.cli.failures import CliError, Denied, Unknown, Unreachable, Wrong
from infra.cli.settings import Settings
from infra.cli.sse import Event, parse

_CONNECT_SECONDS = 5.0
_PASSING = {429, 502, 503, 504}
_PATIENCE_SECONDS = 8.0  # how long what may pass is tried again
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_QUIET_SECONDS = 40.0  # a stream has a comment every 15 s
LONG_POLL = 60.0

Document = dict[str, Any]


class Api:
    """Calls with the settings' token; `note` is told, for the person, what is tried again.

    Redirects are not followed: a token must not go where it was not meant to.
    """

    def __init__(self, settings: Settings, note: Callable[[str], None]) -> None:
        self._settings = settings
        self._note = note
        self._headers = {"Accept": "application/json", "User-Agent": "self-service-agent-cli"}
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token}"
        else:
            self._headers["X-User-Id"] = settings.user.encode().decode("latin-1")  # UTF-8, as the functions read it
        self._http = _pool(settings.server)

    def accept(self, body: Mapping[str, Any], key: str) -> str:
        """Send a request; its id once the server has accepted it.

        Sent again with the same key while the server cannot take it (8 s): the key makes all of them one request.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        answer = self._patiently("POST", "/api/v1/requests/cli", body=json.dumps(body).encode(), headers=headers)
        return str(answer["request_id"])

    def request(self, request_id: str, wait: float = 0.0) -> Document:
        """A request, waiting at most `wait` seconds (60 at most) for its end. Raises Unknown while it is not recorded."""
        path = f"/api/v1/requests/{_part(request_id)}"
        wait = max(0.0, min(wait, LONG_POLL))
        return self._patiently("GET", f"{path}?wait={wait:.1f}" if wait else path, read_seconds=wait + 10)

    def trace(self, request_id: str) -> Document:
        """A request's way through the functions."""
        return self._patiently("GET", f"/api/v1/requests/{_part(request_id)}/trace")

    def session(self, session_id: str) -> Document:
        """A session with its conversation."""
        return self._patiently("GET", f"/api/v1/sessions/{_part(session_id)}")

    def events(self, request_id: str, last_id: str | None, seconds: float) -> Iterator[Event]:
        """The request's events after `last_id`, until the stream ends or nothing came for `seconds` (40 at most).

        Raises Unreachable when the connection breaks, as the other calls do when there is none.
        """
        headers = {**self._headers, "Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=max(0.1, min(seconds, _QUIET_SECONDS)))
        url = f"{self._settings.server}/api/v1/requests/{_part(request_id)}/events"
        try:
            response = self._http.request(
                "GET", url, headers=headers, timeout=timeout, preload_content=False, redirect=False
            )
            try:
                if response.status != 200:
                    raise _refusal(response.status, response.data)
                yield from parse(_pieces(response))
            finally:
                response.close()
        except HTTPError as error:
            raise self._silent() from error

    def _patiently(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_seconds: float = 15.0,
    ) -> Document:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._once(method, path, body, {**self._headers, **(headers or {})}, read_seconds)
            except _Passing as passing:
                wait = max(pause, min(passing.after, _LONGEST_PAUSE))
                if time.monotonic() + wait > deadline:
                    raise passing.error from None
                self._note(f"{passing.error.message}; trying again")
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _once(self, method: str, path: str, body: bytes | None, headers: dict[str, str], read_seconds: float) -> Document:
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=read_seconds)
        url = self._settings.server + path
        try:
            response = self._http.request(method, url, body=body, headers=headers, timeout=timeout, redirect=False)
        except HTTPError as error:
            raise _Passing(self._silent()) from error
        if response.status in _PASSING:
            after = response.headers.get("Retry-After", "")
            seconds = float(after) if after.isascii() and after.isdigit() and len(after) < 6 else 0.0
            raise _Passing(_refusal(response.status, response.data), seconds)
        if not 200 <= response.status < 300:
            raise _refusal(response.status, response.data)
        return _document(response.data)

    def _silent(self) -> Unreachable:
        return Unreachable(f"{self._settings.server} does not answer")


class _Passing(Exception):
    """What may pass; `after` is how many seconds the server asks to wait."""

    def __init__(self, error: CliError, after: float = 0.0) -> None:
        super().__init__()
        self.error = error
        self.after = after


def _pool(server: str) -> urllib3.PoolManager:
    """Connections, through the environment's proxy (HTTPS_PROXY, NO_PROXY) if it names one for this server."""
    parts = urlsplit(server)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        return urllib3.ProxyManager(proxy, retries=False)
    return urllib3.PoolManager(retries=False)


def _part(text: str) -> str:
    return quote(text, safe="")


def _pieces(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    while piece := response.read1(65536):
        yield piece


def _document(raw: bytes) -> Document:
    try:
        document = json.loads(raw)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Unreachable("the server's answer is not that of a self-service agent")
    return document


def _refusal(status: int, raw: bytes) -> CliError:
    """What a problem (RFC 9457) of the server means for the person."""
    try:
        problem = json.loads(raw)
        detail = str(problem["detail"])
        fields = [f"{one['loc']}: {one['msg']}" for one in problem.get("errors", ())]
    except (ValueError, KeyError, TypeError):
        detail, fields = f"the server answered {status}", []
    text = " ".join([detail, *fields])
    if status == 401:
        return Denied(f"{text} (a token: --token, AGENT_TOKEN or the config file)")
    if status == 403:
        return Denied(text)
    if status == 404:
        return Unknown(text)
    if status in _PASSING or status >= 500:
        return Unreachable(text)
    return Wrong(text)
