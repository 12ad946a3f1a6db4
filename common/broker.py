"""Sending CloudEvents to the broker, in binary mode."""

from __future__ import annotations

import logging
import queue
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from cloudevents.http import CloudEvent

from common import faults, metrics, settings
from common.errors import Unavailable
from common.events import label_of, to_http

log = logging.getLogger(__name__)

# A caller hears 503 within 3 s when the broker is away, so that Slack resends in time (Slack: answer within 3 seconds).
_CONNECT_SECONDS = 1.0
_ANSWER_SECONDS = 2.5
_CHECK_SECONDS = 2.0


class Broker:
    """The broker at K_SINK (what a SinkBinding sets), else BROKER_URL. Thread-safe; connections are kept open.

    On http.client rather than a client library: half of what an ingest function does is this one call, and a library's
    pools, redirects and retries cost more than the call (docs/performance.md).
    """

    name = "broker"

    def __init__(self) -> None:
        url = urlsplit(settings.url("K_SINK") if settings.optional("K_SINK") else settings.url("BROKER_URL"))
        self._host, self._port = url.hostname or "", url.port
        self._connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
        self._path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._idle: queue.LifoQueue[HTTPConnection] = queue.LifoQueue(settings.integer("THREADS", 16, least=1, most=1000))

    def start(self) -> None:
        """Nothing to prepare: the first event opens the first connection."""

    def close(self) -> None:
        """Close the idle connections."""
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def publish(self, event: CloudEvent) -> None:
        """Send an event. When this returns the broker has stored it.

        Raises Unavailable when it did not say so within 2.5 s; it may have stored it all the same, so the same event
        must be safe to send again.
        """
        headers, body = to_http(event)
        faults.point("publish.before")
        try:
            status = self._send("POST", headers, body, _ANSWER_SECONDS)
        except (OSError, HTTPException) as error:
            metrics.PUBLISHED.labels(label_of(event["type"]), "failure").inc()
            log.warning("the broker does not answer", extra={"error": type(error).__name__})
            raise Unavailable("The request could not be queued now.") from error
        if not 200 <= status < 300:
            metrics.PUBLISHED.labels(label_of(event["type"]), "failure").inc()
            log.warning("the broker refused an event", extra={"status": status})
            raise Unavailable("The request could not be queued now.")
        faults.point("publish.after")
        metrics.PUBLISHED.labels(label_of(event["type"]), "success").inc()

    def check(self) -> None:
        """Whether something answers HTTP where the broker should be (any answer will do: brokers take only events).

        Raises Unavailable when nothing does within 2 s.
        """
        try:
            self._send("OPTIONS", {}, b"", _CHECK_SECONDS)
        except (OSError, HTTPException) as error:
            raise Unavailable("The broker does not answer.") from error

    def _send(self, method: str, headers: dict[str, str], body: bytes, seconds: float) -> int:
        """The status of one exchange, within `seconds`.

        A connection that the broker closed while it lay idle is noticed at its next use: then once more, on a new one.
        """
        deadline = time.monotonic() + seconds
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            return self._exchange(self._open(), method, headers, body, deadline)
        try:
            return self._exchange(connection, method, headers, body, deadline)
        except TimeoutError:
            raise
        except (OSError, HTTPException):
            return self._exchange(self._open(), method, headers, body, deadline)

    def _open(self) -> HTTPConnection:
        connection = self._connect(self._host, self._port, timeout=_CONNECT_SECONDS)
        connection.connect()
        return connection

    def _exchange(
        self, connection: HTTPConnection, method: str, headers: dict[str, str], body: bytes, deadline: float
    ) -> int:
        try:
            connection.sock.settimeout(max(0.01, deadline - time.monotonic()))
            connection.request(method, self._path, body, headers)
            response = connection.getresponse()
            response.read()
        except (OSError, HTTPException):
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._keep(connection)
        return response.status

    def _keep(self, connection: HTTPConnection) -> None:
        try:
            self._idle.put_nowait(connection)
        except queue.Full:
            connection.close()
