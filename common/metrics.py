"""The metrics of a function, in Prometheus' conventions, served by the host at /metrics.

No label has a value that a caller chooses: functions, statements and outcomes are in the code, agents in their files,
integrations and tools' channels in the topology. Children on the way of every request are looked up once (`cache`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# Else there is one more series for each child, of which nothing is made.
disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5, 5)
_MODEL = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)

HANDLED = Histogram(
    "self_service_agent_handling_seconds",
    "Time one function took for one HTTP request or event.",
    ("function", "status"),
    buckets=_SECONDS,
)
DUPLICATES = Counter(
    "self_service_agent_duplicates_total",
    "Events that were answered from what was stored: they had come before.",
    ("function",),
)
PROCESSED = Histogram(
    "self_service_agent_request_processing_seconds",
    "Time from a request's acceptance to its committed answer or failure.",
    ("integration", "status"),
    buckets=_SECONDS,
)
SESSIONS = Counter(
    "self_service_agent_sessions_total",
    "Sessions created and updated (duplicates of an event count again).",
    ("integration", "action"),
)
PUBLISHED = Counter(
    "self_service_agent_events_published_total",
    "CloudEvents sent to the broker, as a request of ours or as the reply to one of its deliveries.",
    ("type", "outcome"),
)
PUBLISHING = Histogram(
    "self_service_agent_publish_seconds",
    "Time until the broker said that it has an event, or did not.",
    ("outcome",),
    buckets=_SHORT,
)
DATABASE_UP = Gauge(
    "self_service_agent_database_up",
    "1 when the last statement reached the database, 0 when it did not; absent in functions that have no database.",
    registry=None,  # common.database registers it
)
DATABASE_ERRORS = Counter(
    "self_service_agent_database_errors_total",
    "Statements that failed, by class of error.",
    ("error",),
)
STATEMENTS = Histogram(
    "self_service_agent_statement_seconds",
    "Time of one statement that succeeded, with the wait for a connection of the pool.",
    ("statement",),
    buckets=_SHORT,
)
MODEL_CALLS = Counter(
    "self_service_agent_model_calls_total", "Calls of the model through Llama Stack.", ("agent", "outcome")
)
MODEL_SECONDS = Histogram(
    "self_service_agent_model_call_seconds",
    "Time of one call of the model, however it ended.",
    ("agent",),
    buckets=_MODEL,
)
FIRST_TOKEN = Histogram(
    "self_service_agent_first_token_seconds",
    "Time from a call of the model to the first text of its answer, where the answer is streamed.",
    ("agent",),
    buckets=_MODEL,
)
TOKENS = Counter("self_service_agent_tokens_total", "Tokens that the model read and wrote.", ("agent", "direction"))
LEASES_TAKEN_OVER = Counter(
    "self_service_agent_lease_takeovers_total", "Turns taken over from a worker that went away in the middle."
)
REFUSED = Counter(
    "self_service_agent_requests_refused_total",
    "Requests that were recorded as failed at once (duplicates of an event count again).",
    ("integration", "code"),
)
TURNS_HELD_OFF = Counter(
    "self_service_agent_turns_held_off_total",
    "Turns that were sent back to the broker because AGENT_CONCURRENCY model calls were under way.",
)
DELIVERIES = Counter(
    "self_service_agent_deliveries_total",
    "Answers sent to a channel.",
    ("channel", "outcome"),
)
DELIVERY_SECONDS = Histogram(
    "self_service_agent_delivery_seconds",
    "Time a channel took for one answer, however it ended.",
    ("channel",),
    buckets=_SECONDS,
)
ARRIVED = Histogram(
    "self_service_agent_acceptance_to_delivery_seconds",
    "Time from a request's acceptance to the arrival of its answer at the channel.",
    ("channel",),
    buckets=_SECONDS,
)
DELIVERIES_HELD_OFF = Counter(
    "self_service_agent_deliveries_held_off_total",
    "Answers that were sent back to the broker because their destination is slow or asked us to wait.",
    ("channel",),
)
WEBHOOKS_DISABLED = Counter(
    "self_service_agent_webhooks_disabled_total", "Webhooks that were switched off because they answered 410."
)
SWEPT = Counter(
    "self_service_agent_swept_total",
    "What session-sweep did: sessions expired, rows deleted, requests resumed or failed, answers redelivered or given up.",
    ("action",),
)
DEAD_LETTERS = Counter(
    "self_service_agent_dead_letters_total",
    "Events that a Trigger gave up on, by what became of them.",
    ("type", "action"),
)

# What the database holds, for all functions together; session-sweep registers and reads them. A counter dies with its pod,
# and a function that is scaled to zero has none: what must be known then is counted where it is kept.
TURNS_UNFINISHED = Gauge(
    "self_service_agent_turns_unfinished", "Turns that wait or are worked on, up to 100,000.", ("status",), registry=None
)
TURNS_OLDEST = Gauge(
    "self_service_agent_turns_oldest_seconds",
    "Age of the oldest unfinished turn since it was recorded; 0 when there is none.",
    ("status",),
    registry=None,
)
UNDELIVERED = Gauge(
    "self_service_agent_answers_undelivered", "Answers on their way to a channel, up to 100,000.", registry=None
)
UNDELIVERED_OLDEST = Gauge(
    "self_service_agent_answers_undelivered_oldest_seconds",
    "Age of the oldest answer on its way since it was committed; 0 when there is none.",
    registry=None,
)
DEAD_LETTERS_WAITING = Gauge(
    "self_service_agent_dead_letters_waiting", "Dead letters that were given up and not replayed since.", registry=None
)
WEBHOOKS_OFF = Gauge("self_service_agent_webhooks_off", "Webhooks that are switched off now.", registry=None)
SWEPT_AT = Gauge(
    "self_service_agent_last_sweep_timestamp_seconds",
    "When the last sweep ended, or the process started.",
    registry=None,
)
STORED = (TURNS_UNFINISHED, TURNS_OLDEST, UNDELIVERED, UNDELIVERED_OLDEST, DEAD_LETTERS_WAITING, WEBHOOKS_OFF)


@cache
def publishing(outcome: str) -> Histogram:
    """The child of PUBLISHING."""
    return PUBLISHING.labels(outcome)


@cache
def statement(name: str) -> Histogram:
    """The child of STATEMENTS."""
    return STATEMENTS.labels(name)


class _Scraped(Collector):
    """Metrics that are made when they are asked for."""

    def __init__(self, make: Callable[[], Iterable[Metric]]) -> None:
        self._make = make

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would otherwise make them once when they are registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The metrics, now."""
        return self._make()


def register(make: Callable[[], Iterable[Metric]]) -> None:
    """Have `make` called at every scrape."""
    REGISTRY.register(_Scraped(make))


@cache
def _version() -> str:
    try:
        return version("self-service-agent-common")
    except PackageNotFoundError:
        return "unknown"


def show_build(function: str) -> None:
    """Say at every scrape which function this is, of which version (looked up at the first: it takes milliseconds)."""

    def make() -> Iterable[Metric]:
        build = GaugeMetricFamily(
            "self_service_agent_build_info", "Always 1; the version of the code that runs.", labels=("function", "version")
        )
        build.add_metric((function, _version()), 1)
        yield build

    register(make)


def watch_pool(stats: Callable[[], Mapping[str, int]]) -> None:
    """Show a connection pool: `stats` is ConnectionPool.get_stats (psycopg_pool, "Pool stats")."""

    def make() -> Iterable[Metric]:
        now = stats()
        size, idle = now.get("pool_size", 0), now.get("pool_available", 0)
        connections = GaugeMetricFamily(
            "self_service_agent_pool_connections", "Connections of the pool to the database.", labels=("state",)
        )
        connections.add_metric(("busy",), size - idle)
        connections.add_metric(("idle",), idle)
        yield connections
        yield GaugeMetricFamily(
            "self_service_agent_pool_connections_max", "Connections that the pool may have.", now.get("pool_max", 0)
        )
        yield GaugeMetricFamily(
            "self_service_agent_pool_waiting", "Statements that wait for a connection.", now.get("requests_waiting", 0)
        )
        yield CounterMetricFamily(
            "self_service_agent_pool_wait_seconds_total",
            "Time that statements waited for a connection.",
            now.get("requests_wait_ms", 0) / 1000,
        )
        yield CounterMetricFamily(
            "self_service_agent_pool_errors_total",
            "Statements that got no connection in time.",
            now.get("requests_errors", 0),
        )

    register(make)


def watch_threads(threads: int, load: Callable[[], tuple[int, int]]) -> None:
    """Show the server's threads: `load` gives how many are busy, and how many requests wait for one."""

    def make() -> Iterable[Metric]:
        busy, waiting = load()
        yield GaugeMetricFamily("self_service_agent_threads", "Requests that the process works on at once.", threads)
        yield GaugeMetricFamily("self_service_agent_threads_busy", "Threads at work, that of this scrape among them.", busy)
        yield GaugeMetricFamily("self_service_agent_requests_waiting", "HTTP requests that wait for a thread.", waiting)

    register(make)
