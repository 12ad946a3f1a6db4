"""Sending CloudEvents to the broker, in binary mode."""

from __future__ import annotations

import logging
import queue
import time

from cloudevents.http import CloudEvent

from common import faults, metrics, settings, tracing
from common.connection import Connection
from common.errors import Unavailable
from common.events import label_of, to_http
from common.sink import Sink

log = logging.getLogger(__name__)

# A caller hears 503 within 3 s when the broker is away, so that Slack resends in time (Slack: answer within 3 seconds).
_ANSWER_SECONDS = 2.5
_CHECK_SECONDS = 2.0


class Broker:
    """The broker at K_SINK (what a SinkBinding sets), else BROKER_URL. Thread-safe; connections are kept open."""

    name = "broker"

    def __init__(self) -> None:
        self._sink = Sink()
        for outcome in ("success", "failure"):  # there from the start, so that the first one is seen to be one more
            metrics.publishing(outcome)
        self._idle: queue.LifoQueue[Connection] = queue.LifoQueue(settings.integer("THREADS", 16, least=1, most=1000))

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
        started = time.monotonic()
        try:
            with tracing.publishing(event) as span:
                status = self._send("POST", {**headers, **self._sink.identity()}, body, _ANSWER_SECONDS)
                span.note(status=status)
        except OSError as error:
            metrics.publishing("failure").observe(time.monotonic() - started)
            metrics.PUBLISHED.labels(label_of(event["type"]), "failure").inc()
            log.warning("the broker does not answer", extra={"error": type(error).__name__})
            raise Unavailable("The request could not be queued now.") from error
        metrics.publishing("success" if 200 <= status < 300 else "failure").observe(time.monotonic() - started)
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
        except OSError as error:
            raise Unavailable("The broker does not answer.") from error

    def _send(self, method: str, headers: dict[str, str], body: bytes, seconds: float) -> int:
        """The status of one exchange, within `seconds`.

        A connection that the broker closed while it lay idle is noticed at its next use: then once more, on a new one.
        """
        deadline = time.monotonic() + seconds
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            return self._exchange(Connection(self._sink.url, self._sink.tls), method, headers, body, deadline)
        try:
            return self._exchange(connection, method, headers, body, deadline)
        except TimeoutError:
            raise
        except OSError:
            return self._exchange(Connection(self._sink.url, self._sink.tls), method, headers, body, deadline)

    def _exchange(self, connection: Connection, method: str, headers: dict[str, str], body: bytes, deadline: float) -> int:
        try:
            status = connection.exchange(method, headers, body, deadline)
        except OSError:
            connection.close()
            raise
        if connection.reusable:
            try:
                self._idle.put_nowait(connection)
                return status
            except queue.Full:
                pass
        connection.close()
        return status
