"""A slow destination holds few of our threads, and one that asks us to wait is left alone meanwhile.

So one dead webhook never delays the answers of others: what is too much for it goes back to the broker at once, unsent.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from channel import Answer

from common.errors import Unavailable

MAX_PAUSE_SECONDS = 60.0  # a longer Retry-After is passed on to the broker, but we look again


class HeldOff(Unavailable):
    """Nothing was sent: enough is on its way to this destination, or it asked us to wait."""


class Destinations:
    """At most `limit` sends at once to each host. This process knows only what it has seen: another one learns it itself."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._sending: Counter[str] = Counter()
        self._paused_until: dict[str, float] = {}

    @contextmanager
    def sending(self, answer: Answer) -> Iterator[None]:
        """Send within this block. A place that says Retry-After in it (Unavailable of more than a second) is paused.

        Raises HeldOff instead of entering it.
        """
        host, place = _where(answer)
        with self._lock:
            wait = self._paused_until.get(place, 0.0) - time.monotonic()
            if wait > 0:
                raise HeldOff("The destination asked to be left alone for a while.", retry_after=wait)
            if self._sending[host] >= self._limit:
                raise HeldOff("Enough is on its way to this destination.", retry_after=1.0)
            self._sending[host] += 1
        try:
            yield
        except Unavailable as error:
            if error.retry_after is not None and error.retry_after > 1:
                self._pause(place, min(error.retry_after, MAX_PAUSE_SECONDS))
            raise
        finally:
            with self._lock:
                self._sending[host] -= 1
                if not self._sending[host]:
                    del self._sending[host]

    def _pause(self, place: str, seconds: float) -> None:
        now = time.monotonic()
        with self._lock:
            self._paused_until = {one: until for one, until in self._paused_until.items() if until > now}
            self._paused_until[place] = now + seconds


def _where(answer: Answer) -> tuple[str, str]:
    """The host that is sent to, and the place there that may ask us to wait: a webhook, a Slack channel."""
    url = str(answer.delivery.get("webhook_url") or "")
    if url and answer.integration_type != "slack":
        return _host(url), url
    return answer.integration_type, f"{answer.integration_type}:{answer.channel_id}"


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return url  # it will be refused
