"""response-dispatch over real HTTP and real PostgreSQL: webhooks that are gone, moved or not to be called."""

from __future__ import annotations

import json

import pytest

from tests.functional.response_dispatch.support import finished
from tests.parts.functions import Function
from tests.parts.net import problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder


def test_a_webhook_that_says_it_is_gone_is_switched_off_and_said_so(
    dispatch: Function, postgres: Postgres, outside: Recorder
) -> None:
    outside.status = 410
    lines = len(dispatch.log())
    first = finished(postgres, "tool")
    problem(dispatch.post_event(first), 422)
    [(off, reason)] = postgres.query(
        "SELECT delivery ? 'disabled_at', delivery ->> 'disabled_reason' FROM integration_configs"
        " WHERE integration_key = 'snow'"
    )
    assert (off, reason) == (True, "The webhook answered 410.")
    assert postgres.query("SELECT delivery_error FROM request_logs") == [("The webhook answered 410.",)]
    [said] = [line for line in dispatch.log()[lines:] if line["message"] == "a webhook is gone and was switched off"]
    assert (said["level"], said["tool"]) == ("WARNING", "snow")
    assert "self_service_agent_webhooks_disabled_total" in dispatch.get("/metrics").body.decode()

    # A later answer: nothing is sent, nothing is tried again, and that is recorded.
    outside.status = 200
    postgres.query("UPDATE request_logs SET request_id = 'r0'")
    assert dispatch.post_event(finished(postgres, "tool")).status == 204
    assert len(outside.events) == 1
    [(error, attempts, given_up)] = postgres.query(
        "SELECT delivery_error, delivery_attempts, undeliverable_at IS NOT NULL FROM request_logs WHERE request_id = 'r1'"
    )
    assert error.startswith("Not sent: the webhook is switched off since 20")
    assert (attempts, given_up) == (0, True)


def test_a_webhook_that_was_moved_meanwhile_is_not_switched_off(
    dispatch: Function, postgres: Postgres, outside: Recorder
) -> None:
    postgres.query("SELECT disable_webhook('tool', 'snow', 'https://the-old-address.example/', 'gone')")
    assert dispatch.post_event(finished(postgres, "tool")).status == 204
    assert len(outside.events) == 1


def test_the_webhook_of_all_tools_is_switched_off_for_all(dispatch: Function, postgres: Postgres, outside: Recorder) -> None:
    postgres.query("DELETE FROM integration_configs WHERE integration_key = 'snow'")
    postgres.query(
        "UPDATE integration_configs SET delivery = %s WHERE integration_type = 'tool'",
        json.dumps({"webhook_url": outside.url + "hook", "secret_ref": "snow"}),  # pragma: allowlist secret
    )
    outside.status = 410
    problem(dispatch.post_event(finished(postgres, "tool")), 422)
    found = postgres.query("SELECT integration_type FROM integration_configs WHERE delivery ? 'disabled_at'")
    assert found == [("tool",)]


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/x", "https://127.0.0.1/x", "https://[::1]/x", "https://169.254.169.254/x", "ftp://x/", "no url"],
)
def test_a_webhook_to_a_private_address_is_refused(
    dispatch: Function, postgres: Postgres, outside: Recorder, url: str
) -> None:
    postgres.query(
        "UPDATE integration_configs SET delivery = %s WHERE integration_key = 'snow'",
        json.dumps({"webhook_url": url, "secret_ref": "snow"}),  # pragma: allowlist secret
    )
    problem(dispatch.post_event(finished(postgres, "tool")), 422)
    assert outside.events == []
