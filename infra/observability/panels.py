"""What the dashboard shows: a row for each stage of the chain. dashboard.py makes Grafana's JSON of it."""

from __future__ import annotations

from infra.observability.panel import WHERE, Panel, Row, handled, newest, quantiles, rate

_ALL = Row(
    "Requests, end to end",
    (
        Panel(
            "Answered",
            "Turns that ended, per second.",
            "reqps",
            ((rate("self_service_agent_request_processing_seconds_count", "status"), "{{status}}"),),
        ),
        Panel(
            "Acceptance to committed answer",
            "What a browser and a terminal wait for.",
            "s",
            quantiles("self_service_agent_request_processing_seconds"),
        ),
        Panel(
            "Turns waiting",
            "Recorded and not begun, in the database.",
            "short",
            ((newest("self_service_agent_turns_unfinished", matching='status="queued"'), "waiting"),),
            now=True,
        ),
        Panel(
            "Dead letters waiting",
            "Given up and not replayed since: for somebody to look at.",
            "short",
            ((newest("self_service_agent_dead_letters_waiting"), "waiting"),),
            now=True,
        ),
    ),
)
_INGEST = Row(
    "Ingest",
    (
        *handled("Ingest", "ingest-.+"),
        Panel(
            "Publishing",
            "Events that functions posted to the broker.",
            "reqps",
            ((rate("self_service_agent_events_published_total", "type, outcome"), "{{type}} {{outcome}}"),),
        ),
        Panel("Publishing: time", "Until the broker had it.", "s", quantiles("self_service_agent_publish_seconds")),
    ),
)
_SESSIONS = Row(
    "Sessions",
    (
        *handled("session-upsert", "session-upsert"),
        Panel(
            "Sessions",
            "Created and updated.",
            "reqps",
            ((rate("self_service_agent_sessions_total", "integration, action"), "{{integration}} {{action}}"),),
        ),
        Panel(
            "Refused and repeated",
            "Requests recorded as failed at once; events that had come before.",
            "reqps",
            (
                (rate("self_service_agent_requests_refused_total", "integration, code"), "{{integration}} {{code}}"),
                (rate("self_service_agent_duplicates_total", "function"), "repeated to {{function}}"),
            ),
        ),
    ),
)
_TURNS = Row(
    "Turns: the queue",
    (
        Panel(
            "Turns in the database",
            "queued: recorded and not begun; processing: a worker has its lease.",
            "short",
            ((newest("self_service_agent_turns_unfinished", "status"), "{{status}}"),),
        ),
        Panel(
            "Oldest turn",
            "Since it was recorded.",
            "s",
            ((newest("self_service_agent_turns_oldest_seconds", "status"), "{{status}}"),),
        ),
        *handled("agent-invoke", "agent-invoke"),
        Panel(
            "Held off and taken over",
            "Turns sent back because AGENT_CONCURRENCY was reached; turns of workers that went away.",
            "reqps",
            (
                (rate("self_service_agent_turns_held_off_total", "namespace"), "held off"),
                (rate("self_service_agent_lease_takeovers_total", "namespace"), "taken over"),
            ),
        ),
    ),
)
_AGENT = Row(
    "Agent and model",
    (
        Panel(
            "Model calls",
            "By the agent that was asked, and how the call ended.",
            "reqps",
            ((rate("self_service_agent_model_calls_total", "agent, outcome"), "{{agent}} {{outcome}}"),),
        ),
        Panel("Model calls: time", "Whole calls.", "s", quantiles("self_service_agent_model_call_seconds", "agent")),
        Panel(
            "Time to first token",
            "Where the answer is streamed (web, cli).",
            "s",
            quantiles("self_service_agent_first_token_seconds", "agent"),
        ),
        Panel(
            "Tokens",
            "Per second.",
            "short",
            ((rate("self_service_agent_tokens_total", "agent, direction"), "{{agent}} {{direction}}"),),
        ),
    ),
)
_DELIVERIES = Row(
    "Deliveries",
    (
        *handled("response-dispatch", "response-dispatch"),
        Panel(
            "Answers sent",
            "To Slack and webhooks.",
            "reqps",
            (
                (rate("self_service_agent_deliveries_total", "channel, outcome"), "{{channel}} {{outcome}}"),
                (rate("self_service_agent_deliveries_held_off_total", "channel"), "{{channel}} held off"),
            ),
        ),
        Panel("Sending: time", "What the channel took.", "s", quantiles("self_service_agent_delivery_seconds", "channel")),
        Panel(
            "Acceptance to delivery",
            "What a person in Slack and a tool wait for.",
            "s",
            quantiles("self_service_agent_acceptance_to_delivery_seconds", "channel"),
        ),
        Panel(
            "On their way",
            "Answers that have not arrived, and the oldest one's age.",
            "short",
            (
                (newest("self_service_agent_answers_undelivered"), "answers"),
                (newest("self_service_agent_answers_undelivered_oldest_seconds"), "oldest, seconds"),
                (newest("self_service_agent_webhooks_off"), "webhooks switched off"),
                (rate("self_service_agent_webhooks_disabled_total", "namespace"), "switched off, per second"),
            ),
        ),
    ),
)
_LETTERS = Row(
    "Dead letters and the sweep",
    (
        Panel(
            "Dead letters",
            "Events that a Trigger gave up on: sent again, or given up.",
            "reqps",
            ((rate("self_service_agent_dead_letters_total", "type, action"), "{{type}} {{action}}"),),
        ),
        Panel(
            "Waiting for an operator",
            "Given up and not replayed since.",
            "short",
            ((newest("self_service_agent_dead_letters_waiting"), "dead letters"),),
        ),
        Panel(
            "The sweep",
            "What it did.",
            "cps",
            ((rate("self_service_agent_swept_total", "action"), "{{action}}"),),
        ),
        Panel(
            "Since the last sweep",
            "Every five minutes there is one.",
            "s",
            ((f"time() - {newest('self_service_agent_last_sweep_timestamp_seconds')}", "ago"),),
        ),
    ),
)
_DATABASE = Row(
    "Database and pools",
    (
        Panel(
            "Reached",
            "Pods whose last statement reached the database, and those whose did not.",
            "short",
            (
                (f"count by (function) (self_service_agent_database_up{{{WHERE}}} == 1)", "{{function}} up"),
                (f"count by (function) (self_service_agent_database_up{{{WHERE}}} == 0)", "{{function}} down"),
                (rate("self_service_agent_database_errors_total", "error"), "{{error}}, per second"),
            ),
        ),
        Panel(
            "Statements: time",
            "With the wait for a connection.",
            "s",
            quantiles("self_service_agent_statement_seconds", "statement"),
        ),
        Panel(
            "Statements",
            "Per second.",
            "reqps",
            ((rate("self_service_agent_statement_seconds_count", "statement"), "{{statement}}"),),
        ),
        Panel(
            "Connections",
            "Of all pods' pools; and how many there may be.",
            "short",
            (
                (f"sum by (function, state) (self_service_agent_pool_connections{{{WHERE}}})", "{{function}} {{state}}"),
                (f"sum by (function) (self_service_agent_pool_connections_max{{{WHERE}}})", "{{function}} may have"),
            ),
        ),
        Panel(
            "Waiting for a connection",
            "Statements that wait, seconds waited in every second, and those that got none.",
            "short",
            (
                (f"sum by (function) (self_service_agent_pool_waiting{{{WHERE}}})", "{{function}} waiting"),
                (rate("self_service_agent_pool_wait_seconds_total", "function"), "{{function}} seconds"),
                (rate("self_service_agent_pool_errors_total", "function"), "{{function}} none"),
            ),
        ),
    ),
)
_PROCESSES = Row(
    "Processes",
    (
        Panel(
            "Pods",
            "By function and version; a function that is scaled to zero has none.",
            "short",
            ((f"count by (function, version) (self_service_agent_build_info{{{WHERE}}})", "{{function}} {{version}}"),),
        ),
        Panel(
            "Threads",
            "At work, of all pods; and requests that wait for one.",
            "short",
            (
                (f"sum by (function) (self_service_agent_threads_busy{{{WHERE}}})", "{{function}} busy"),
                (f"sum by (function) (self_service_agent_threads{{{WHERE}}})", "{{function}} all"),
                (f"sum by (function) (self_service_agent_requests_waiting{{{WHERE}}})", "{{function}} waiting"),
            ),
        ),
        Panel(
            "CPU",
            "Cores.",
            "short",
            ((rate("process_cpu_seconds_total", "function", 'function!=""'), "{{function}}"),),
        ),
        Panel(
            "Memory",
            "The largest pod's resident memory.",
            "bytes",
            ((newest("process_resident_memory_bytes", "function", 'function!=""'), "{{function}}"),),
        ),
        *handled("Others", "request-status|dead-letter|session-sweep"),
    ),
)
ROWS = (_ALL, _INGEST, _SESSIONS, _TURNS, _AGENT, _DELIVERIES, _LETTERS, _DATABASE, _PROCESSES)
