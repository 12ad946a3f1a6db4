"""The metrics of a function, in Prometheus' conventions, served by the host at /metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

HANDLED = Histogram(
    "self_service_agent_handling_seconds",
    "Time one function took for one HTTP request or event.",
    ("function", "status"),
    buckets=_SECONDS,
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
MODEL_CALLS = Counter(
    "self_service_agent_model_calls_total", "Calls of the model through Llama Stack.", ("agent", "outcome")
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
