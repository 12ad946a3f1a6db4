"""ingest-slack as Slack meets it, over real HTTP, with real signatures: what it hears while the broker is away."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.functional.ingest_slack.support import CHALLENGE, heard
from tests.parts.functions import Function
from tests.parts.net import free_port, problem
from tests.parts.samples import settings_of_ingest
from tests.parts.slack import Slack, command, mention, message, press


class TestNoBroker:
    @pytest.fixture
    def alone(self) -> Iterator[Slack]:
        function = Function("ingest-slack", settings_of_ingest(f"http://127.0.0.1:{free_port()}/"), ready=False)
        yield Slack(function.url)
        function.close()

    def test_an_event_is_503_so_that_slack_sends_it_again(self, alone: Slack) -> None:
        started = time.monotonic()
        answer = alone.send(mention())
        assert time.monotonic() - started < 3
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1

    def test_a_button_is_503_so_that_slack_marks_it(self, alone: Slack) -> None:
        problem(alone.use(press()), 503)

    def test_a_command_is_told_to_its_person_since_slack_does_not_send_it_again(self, alone: Slack) -> None:
        answer = alone.run(command())
        assert answer.status == 200
        assert answer.json()["response_type"] == "ephemeral"
        assert "again" in answer.json()["text"]

    def test_what_asks_for_nothing_needs_no_broker(self, alone: Slack) -> None:
        heard(alone.send(message()))
        assert alone.send(CHALLENGE).status == 200

    def test_a_broker_that_hangs_is_not_waited_for_3_s(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(50)
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            function = Function("ingest-slack", settings_of_ingest(url), ready=False)
            try:
                started = time.monotonic()
                problem(Slack(function.url).send(json.loads(json.dumps(mention()))), 503)
                assert time.monotonic() - started < 3
            finally:
                function.close()
