"""The one place that knows llama-stack-client: stateless calls of the Responses API.

It works with client and server 0.2.12 (Python 3.11), with 0.7 (3.12 and later), and with either client
against either server: the path of the Responses API moved between them, so the server is asked once which one
it has.

Importing the client costs most of a second and some 50 MB, so a background thread does it: `Llama.start()`
returns at once, and the first calls wait for it.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from replies import ModelReply, failure, read, unreadable
from streamed import completed
from watchdog import Watchdog, owned_stream

from common import tracing
from common.errors import Unavailable

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection: a server that is there accepts at once, however long its answer takes."""

KEEPALIVE = 3.0
"""Seconds an idle connection is kept; the server (uvicorn) closes it after 5, and we must be the first."""

CHECK_TIMEOUT = 2.0
"""Seconds that a health check may take."""

END_OF_STREAM = 0.05
"""Seconds that the end of a stream is waited for after the whole answer has come."""

_watchdog = Watchdog()

_OLD_PATH = "/v1/openai/v1/responses"  # servers up to 0.3
_NEW_PATH = "/v1/responses"  # servers from 0.3 on


@dataclass(frozen=True)
class _Loaded:
    """What the background thread brings: the client's module, httpx, and one client for all threads."""

    module: ModuleType
    httpx: ModuleType
    client: Any
    owned: type


class Llama:
    """A Llama Stack server, asked statelessly; one object serves all threads of a process."""

    name = "llama-stack"

    def __init__(self, url: str, api_key: str | None, timeout: float) -> None:
        """Remember where the server is; nothing is imported or contacted yet.

        `url` is the server's base URL (LLAMA_STACK_URL), `api_key` is sent as a bearer token, `timeout` is
        how many seconds a call may take (AGENT_TIMEOUT).
        """
        self.timeout = timeout
        self._url = url.rstrip("/")
        self._api_key = api_key or None
        self._lock = threading.Lock()
        self._loading: Future[_Loaded] | None = None
        self._path: str | None = None

    def start(self) -> None:
        """Begin to import the client in a background thread; a second call does nothing."""
        self._load()

    def check(self) -> None:
        """Ask the server whether it is healthy; does not wait for the import.

        Raises Unavailable when it does not answer, or with a 5xx.
        """
        address = urlsplit(self._url)
        connection = (HTTPSConnection if address.scheme == "https" else HTTPConnection)(
            address.hostname or "", address.port, timeout=CHECK_TIMEOUT
        )
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        try:
            connection.request("GET", f"{address.path}/v1/health", headers=headers)
            status = connection.getresponse().status
        except (OSError, HTTPException) as error:
            raise _unreachable() from error
        finally:
            connection.close()
        if status >= 500:
            raise _unreachable()

    def close(self) -> None:
        """Close the connections, at once or when the import has ended. The object is not used afterwards."""
        with self._lock:
            loading = self._loading
        if loading is not None:
            loading.add_done_callback(_close)

    def respond(
        self,
        *,
        model: str,
        instructions: str,
        input: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]] = (),
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        timeout: float | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> ModelReply:
        """Ask a model once; nothing is stored at the server and nothing is repeated here.

        `input` are messages `{"role": "user" | "assistant", "content": text}`, oldest first. `tools` are the
        Responses API's tool objects. Servers 0.2 ignore `max_tokens` and `top_p`. `timeout` (seconds) is a
        shorter limit than the object's own, for a call that is part of a longer turn. With `on_text` the
        answer is streamed: it is called with each piece of text as it comes, in this thread; what is returned
        is the same as without.

        Raises Unavailable if the same call may work later (no answer, too slow, 408, 429, 5xx, an empty
        answer), and TurnRefused if it never will (unknown model, refused request, no access).
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else min(timeout, self.timeout))
        loaded = self._wait(deadline)
        request: dict[str, Any] = {
            "model": model,
            "instructions": instructions,
            "input": [dict(item) for item in input],
            "store": False,
        }
        if tools:
            request["tools"] = [dict(tool) for tool in tools]
        if temperature is not None:
            request["temperature"] = temperature
        if max_tokens is not None:
            request["max_output_tokens"] = max_tokens
        if top_p is not None:
            request["top_p"] = top_p
        # By the client's own `post`, not by `responses.create`: that walks through every part of the request and the
        # answer to make typed objects of them, and all that is wanted is the JSON (docs/performance.md).
        try:
            path = self._find_path(loaded, deadline)
            if on_text is None:
                body = _whole(loaded, deadline, path, request)
            else:
                body = _streamed(loaded, deadline, path, request, on_text)
        except loaded.module.APITimeoutError as error:
            self._path = None
            raise Unavailable("The agent did not answer in time.") from error
        except loaded.module.APIStatusError as error:
            self._path = None
            raise failure(error.status_code, error.response.headers, error.body, model) from error
        except loaded.module.APIError as error:
            self._path = None
            raise _unreachable() from error
        except loaded.httpx.HTTPError as error:  # a stream that broke off
            self._path = None
            if time.monotonic() >= deadline:
                raise Unavailable("The agent did not answer in time.") from error
            raise Unavailable("The agent service broke off its answer.") from error
        except json.JSONDecodeError as error:
            raise unreadable() from error
        return read(body, request)

    def _load(self) -> Future[_Loaded]:
        with self._lock:
            if self._loading is None:
                importer = ThreadPoolExecutor(1, thread_name_prefix="llama-import")
                self._loading = importer.submit(self._connect)
                importer.shutdown(wait=False)
            return self._loading

    def _wait(self, deadline: float) -> _Loaded:
        try:
            return self._load().result(timeout=max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            raise Unavailable("The agent is still starting.") from error

    def _connect(self) -> _Loaded:
        module, httpx = _import_client()
        http = module.DefaultHttpxClient(
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=64, keepalive_expiry=KEEPALIVE),
            event_hooks={"request": [_adapt]},
        )
        client = module.LlamaStackClient(
            base_url=self._url, api_key=self._api_key, timeout=self.timeout, max_retries=0, http_client=http
        )
        return _Loaded(module, httpx, client, owned_stream(httpx))

    def _find_path(self, loaded: _Loaded, deadline: float) -> str:
        """Where the server's Responses API is: asked once, and after a failure again, as it may be another server."""
        found = self._path
        if found is not None:
            return found
        options = {"params": {"limit": 1}, "timeout": _left(loaded, deadline)}
        found = _OLD_PATH
        try:
            loaded.client.get(_OLD_PATH, cast_to=loaded.httpx.Response, options=options)
        except loaded.module.NotFoundError:
            found = _NEW_PATH
        except loaded.module.APIStatusError as error:
            # The route is there, only listing is not allowed or does not work (0.2.12 with its PostgreSQL
            # store).
            if error.status_code not in (405, 500):
                raise
        self._path = found
        return found


def _adapt(request: Any) -> None:
    # Servers up to 0.7 answer 426 to another version, although these calls are the same in all of them.
    request.headers.pop("X-LlamaStack-Client-Version", None)
    if parent := tracing.traceparent():
        request.headers["traceparent"] = parent


def _import_client() -> tuple[ModuleType, ModuleType]:
    """Import the client without letting it configure logging: it calls logging.basicConfig(level=INFO)."""
    # basicConfig does nothing if the root logger has a handler. One that does nothing is put there meanwhile,
    # rather than undoing it afterwards, because the main thread may be configuring logging at the same time.
    guard = logging.NullHandler()
    root = logging.getLogger()
    root.addHandler(guard)
    try:
        import httpx
        import llama_stack_client
    finally:
        root.removeHandler(guard)
    return llama_stack_client, httpx


def _whole(loaded: _Loaded, deadline: float, path: str, request: Mapping[str, object]) -> object:
    """Ask for the whole answer at once; its body."""
    answer = loaded.client.post(
        path, cast_to=loaded.httpx.Response, body=request, options={"timeout": _left(loaded, deadline)}
    )
    return answer.json()


def _streamed(
    loaded: _Loaded, deadline: float, path: str, request: Mapping[str, object], on_text: Callable[[str], None]
) -> object:
    """Ask for the answer as it is written; its body once it is complete."""
    options = {"timeout": _left(loaded, deadline)}
    body = {**request, "stream": True}
    answer = loaded.client.post(path, cast_to=loaded.httpx.Response, body=body, options=options, stream=True)
    answer.stream = loaded.owned(answer.stream)
    with closing(answer), _watchdog.at(deadline, partial(_cut, answer)) as call:
        answer.stream.ends.append(call.end)
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            return json.loads(answer.read())  # what stands between cannot stream, and sent it whole
        pieces = answer.iter_bytes()
        found = completed(pieces, on_text, str(request["model"]))
        _drain(loaded, answer, pieces)
        return found


def _drain(loaded: _Loaded, answer: Any, pieces: Iterator[bytes]) -> None:
    """Read what comes after the whole answer: a few bytes that end the stream. With them the connection can be kept."""
    with suppress(loaded.httpx.HTTPError), _watchdog.at(time.monotonic() + END_OF_STREAM, partial(_cut, answer)) as rest:
        answer.stream.ends.append(rest.end)
        for _ in pieces:
            pass


def _cut(response: Any) -> None:
    """End a response that is not read to its end in time: httpx bounds each read, not all of them together. Only while the
    connection is the response's own: the next turn may have it already."""
    with suppress(OSError, AttributeError):  # closed, or given back and without a socket
        response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _left(loaded: _Loaded, deadline: float) -> Any:
    """Give the timeout for one request that must end by `deadline`."""
    left = max(0.001, deadline - time.monotonic())
    return loaded.httpx.Timeout(left, connect=min(left, CONNECT_TIMEOUT))


def _close(loading: Future[_Loaded]) -> None:
    if loading.exception() is None:
        loading.result().client.close()


def _unreachable() -> Unavailable:
    return Unavailable("The agent service cannot be reached.")
