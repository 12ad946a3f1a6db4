"""Sending CloudEvents to the broker, in binary mode."""

from __future__ import annotations

import logging

import urllib3
from cloudevents.conversion import to_binary
from cloudevents.http import CloudEvent
from urllib3.exceptions import HTTPError, ProtocolError

from common import faults, metrics, settings
from common.errors import Unavailable

log = logging.getLogger(__name__)

# A caller hears 503 within 3 s when the broker is away, so that Slack resends in time (Slack: answer within 3 seconds).
_PUBLISH = urllib3.Timeout(connect=1.0, total=2.5)
_CHECK = urllib3.Timeout(connect=1.0, total=2.0)


class Broker:
    """The broker at K_SINK (what a SinkBinding sets), else BROKER_URL. Thread-safe; connections are kept open."""

    name = "broker"

    def __init__(self) -> None:
        self._url = settings.url("K_SINK") if settings.optional("K_SINK") else settings.url("BROKER_URL")
        size = settings.integer("THREADS", 16, least=1, most=1000)
        # A connection that the broker closed while it lay idle is noticed at its first use: one more try, same event id.
        self._http = urllib3.PoolManager(maxsize=size, retries=False)

    def start(self) -> None:
        """Nothing to prepare: the first event opens the first connection."""

    def close(self) -> None:
        """Close the idle connections."""
        self._http.clear()

    def publish(self, event: CloudEvent) -> None:
        """Send an event. When this returns the broker has stored it.

        Raises Unavailable when it did not say so within 2.5 s; it may have stored it all the same, so the same event must
        be safe to send again.
        """
        headers, body = to_binary(event)
        faults.point("publish.before")
        try:
            status = self._post(headers, body)
        except HTTPError as error:
            metrics.PUBLISHED.labels(event["type"], "failure").inc()
            log.warning("the broker does not answer", extra={"error": type(error).__name__})
            raise Unavailable("The request could not be queued now.") from error
        if not 200 <= status < 300:
            metrics.PUBLISHED.labels(event["type"], "failure").inc()
            log.warning("the broker refused an event", extra={"status": status})
            raise Unavailable("The request could not be queued now.")
        faults.point("publish.after")
        metrics.PUBLISHED.labels(event["type"], "success").inc()

    def _post(self, headers: dict[str, str], body: bytes) -> int:
        try:
            return self._http.request("POST", self._url, body=body, headers=headers, timeout=_PUBLISH).status
        except ProtocolError:
            return self._http.request("POST", self._url, body=body, headers=headers, timeout=_PUBLISH).status

    def check(self) -> None:
        """Whether something answers HTTP where the broker should be (any answer will do: brokers take only events).

        Raises Unavailable when nothing does within 2 s.
        """
        try:
            self._http.request("OPTIONS", self._url, timeout=_CHECK, redirect=False)
        except HTTPError as error:
            raise Unavailable("The broker does not answer.") from error
