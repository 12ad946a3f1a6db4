"""response-dispatch in its own process; what is outside of us is stood in for."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.functional.response_dispatch.support import SECRET
from tests.parts.functions import Function
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder


@pytest.fixture(scope="module")
def dispatch(postgres_server: Postgres, recorder: Recorder) -> Iterator[Function]:
    function = Function(
        "response-dispatch",
        {
            **postgres_server.environment(),
            "SLACK_BOT_TOKEN": "xoxb-test",
            "SLACK_API_URL": recorder.url + "slack/",
            "WEBHOOK_SECRETS": json.dumps({"snow": SECRET}),
            "WEBHOOK_URLS_ALLOWED": recorder.url,
        },
    )
    yield function
    function.close()


@pytest.fixture
def outside(recorder: Recorder, postgres: Postgres) -> Recorder:
    """What is outside: Slack's API says ok, the tool has a webhook."""
    recorder.clear()
    recorder.status = 200
    recorder.answer_headers = {"content-type": "application/json"}
    recorder.answer_body = b'{"ok": true, "ts": "1700000000.000100", "channel": "C1"}'
    postgres.query(
        "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', 'snow', %s)",
        json.dumps({"webhook_url": recorder.url + "hook", "secret_ref": "snow"}),  # pragma: allowlist secret
    )
    return recorder
