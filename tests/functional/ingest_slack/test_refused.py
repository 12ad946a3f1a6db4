"""ingest-slack as Slack meets it, over real HTTP: the URL verification, and what has no good signature or form."""

from __future__ import annotations

import pytest

from tests.functional.ingest_slack.support import CHALLENGE
from tests.parts.functions import Function
from tests.parts.net import problem
from tests.parts.recorder import Recorder
from tests.parts.slack import FORM, Slack, mention


class TestUrlVerification:
    def test_the_challenge_comes_back(self, slack: Slack, recorder: Recorder) -> None:
        answer = slack.send(CHALLENGE)
        assert (answer.status, answer.json()) == (200, {"challenge": CHALLENGE["challenge"]})
        assert recorder.events == []

    def test_not_to_a_stranger(self, function: Function) -> None:
        problem(Slack(function.url, "another secret").send(CHALLENGE), 401)

    def test_without_a_challenge_it_is_malformed(self, slack: Slack) -> None:
        problem(slack.send({"type": "url_verification"}), 400)

    def test_behind_the_gateway_too(self, function: Function) -> None:
        assert Slack(function.url + "/api/v1/requests/slack").send(CHALLENGE).status == 200


class TestRefused:
    @pytest.mark.parametrize(
        "change", [{"x_slack_signature": "v0=" + "0" * 64}, {"x_slack_request_timestamp": "1600000000"}]
    )
    def test_everything_without_a_good_signature(self, slack: Slack, recorder: Recorder, change: dict[str, str]) -> None:
        problem(slack.send(mention(), **change), 401)
        problem(slack.post(b"command=%2Fagent&user_id=U1&team_id=T1&text=x", FORM, **change), 401)
        problem(slack.post(b"payload=%7B%7D", FORM, **change), 401)
        problem(slack.post(b"ssl_check=1", FORM, **change), 401)
        assert recorder.events == []

    @pytest.mark.parametrize(
        "body", [b"payload=%7B", b"payload=[]", b"command=%2Fagent&text=%FF", b"command=a%00b&text=%00"]
    )
    def test_a_form_that_cannot_be_read(self, slack: Slack, recorder: Recorder, body: bytes) -> None:
        problem(slack.post(body, FORM), 400)
        assert recorder.events == []

    def test_a_form_that_is_not_slacks(self, slack: Slack) -> None:
        problem(slack.post(b"a=b", FORM), 415)

    def test_a_form_of_a_thousand_fields(self, slack: Slack) -> None:
        problem(slack.post("&".join(f"f{n}=1" for n in range(1000)).encode(), FORM), 400)
