"""Events: the same arguments give the same event; trace contexts are taken over only when they are valid."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from cloudevents.conversion import to_binary
from cloudevents.http import CloudEvent, from_http

from common import events
from common.ingest import conversation, request_id_for

ANSWER = {
    "request_id": "r1",
    "session_id": None,
    "integration_type": "web",
    "integration_key": "",
    "user_id": "ann",
    "status": "completed",
    "agent_id": "a",
    "content": "x",
    "error": None,
    "completed_at": "2026-01-01T01:00:00+01:00",
    "conversation_key": "c1",
    "traceparent": None,
}


def test_an_answers_event_is_a_function_of_the_row() -> None:
    one, two = (to_binary(events.response_ready("agent-invoke", ANSWER)) for _ in range(2))
    assert one == two
    headers, _ = one
    assert headers["ce-id"] == "r1.response"
    assert headers["ce-time"] == "2026-01-01T00:00:00Z"
    assert "ce-sessionid" not in headers


def test_a_failures_event_has_its_own_id() -> None:
    failed = {**ANSWER, "status": "failed", "content": None, "error": {"code": "c", "message": "m"}}
    assert to_binary(events.response_ready("x", failed))[0]["ce-id"] == "r1.failed"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "01-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "A" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01\n",
    ],
)
def test_an_invalid_trace_context_is_replaced(header: str | None) -> None:
    made = events.traceparent(header)
    assert made != header
    assert events.traceparent(made) == made


def test_conversations_are_told_apart_by_every_part() -> None:
    keys = {conversation("a", "b"), conversation("ab", ""), conversation("a", "b", None), conversation("a", None, "b")}
    assert len(keys) == 4


def test_ids_made_from_keys_are_stable_across_releases() -> None:
    """A client that repeats a request after an upgrade must get the same id: this value must never change."""
    assert request_id_for("web", "ann", "key") == "be9d69ab-dbbc-5048-9f52-7950a91dfcfa"
    assert request_id_for("web", "ann", "key") == request_id_for("web", "ann", "key")
    assert request_id_for("web", "ann", "key") != request_id_for("web", "annkey", "")


def test_times_of_the_database_are_read_as_utc() -> None:
    assert events.when("2026-01-01T01:00:00+01:00") == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("subject", ["r1", "größe", "a b", "100%", "line\nbreak", 'quote"', "\u202e"])
def test_an_event_in_binary_mode_is_what_the_sdk_reads_and_fits_into_headers(subject: str) -> None:
    event = CloudEvent(
        {"type": "t", "source": "/s", "id": "1", "subject": subject, "datacontenttype": "application/json"}, b"{}"
    )
    headers, body = events.to_http(event)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    read = from_http(headers, body)
    assert unquote(read["subject"]) == subject or read["subject"] == subject
    assert (read["id"], read["type"], read.data) == ("1", "t", {})
