"""Eventing's authentication-oidc on: by Knative's code every event is sent with its sender's token, and both ends verify.

Signed by an issuer of the tests in the place of the API server; asked for, sent and verified by Knative and the functions.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.broker.harness import event_headers
from tests.knative.chain import Chain, started
from tests.knative.conftest import render, run
from tests.knative.test_chain import row, wait_for
from tests.parts.events import request_created
from tests.parts.llama import DemoModel
from tests.parts.net import call
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder

CREATED = "com.self-service-agent.request.created"


@pytest.fixture(scope="module")
def chain(
    rendered: Callable[[str], Path], postgres_server: Postgres, llama_stack: str, recorder: Recorder
) -> Iterator[Chain]:
    with started(rendered("oidc"), postgres_server, llama_stack, recorder, identities=True) as running:
        yield running


@pytest.fixture(autouse=True)
def no_requests_yet(postgres: Postgres, demo_model: DemoModel) -> None:
    """An empty database and a model that remembers nothing."""


def test_a_request_is_answered_by_events_that_every_receiver_verified(chain: Chain) -> None:
    answered = chain.result(chain.send("web", session_token=uuid.uuid4().hex).json()["request_id"])
    assert (answered["status"], answered["agent_id"]) == ("completed", "laptop-refresh")
    chain.broker.post("dev.knative.sources.ping", uuid.uuid4().hex)
    sweep = chain.functions["session-sweep"]
    wait_for(lambda: [line for line in sweep.log() if line["message"] == "handled"], "the sweep is woken")
    for name in ("session-upsert", "agent-invoke", "response-dispatch", "session-sweep"):
        handled = [line["status"] for line in chain.functions[name].log() if line["message"] == "handled"]
        assert handled, name
        assert set(handled) <= {200, 204}, name


@pytest.mark.parametrize("name", ["session-upsert", "agent-invoke", "response-dispatch", "dead-letter", "session-sweep"])
def test_an_event_without_the_triggers_token_is_refused(chain: Chain, postgres: Postgres, name: str) -> None:
    headers = event_headers(CREATED, uuid.uuid4().hex)
    url = chain.functions[name].url + "/"
    assert call("POST", url, body=b"{}", headers=headers).status == 401
    # The publisher's token is for the broker: no function takes it.
    assert (
        call(
            "POST", url, body=b"{}", headers={**headers, "authorization": f"Bearer {chain.broker.tokens['publisher']}"}
        ).status
        == 401
    )
    assert postgres.query("SELECT count(*) FROM dead_letters") == [(0,)]


def test_the_broker_takes_events_of_those_only_whom_the_policy_names(chain: Chain) -> None:
    headers = event_headers(CREATED, uuid.uuid4().hex)
    assert chain.broker.request("POST", headers, b"{}").status == 401
    forged = {**headers, "authorization": f"Bearer {chain.broker.tokens['publisher']}x"}
    assert chain.broker.request("POST", forged, b"{}").status == 401
    stranger = {**headers, "authorization": f"Bearer {chain.broker.tokens['stranger']}"}
    assert chain.broker.request("POST", stranger, b"{}").status == 403


def test_a_dead_letter_comes_with_a_token_too(chain: Chain, postgres: Postgres) -> None:
    event_id = uuid.uuid4().hex
    chain.broker.post(CREATED, event_id, b'{"not": "a request"}')
    rows = wait_for(
        lambda: postgres.query("SELECT error_code FROM dead_letters WHERE event_id = %s", event_id), "the letter is recorded"
    )
    assert rows == [("400",)]


def test_dead_letter_sends_again_with_the_publishers_token(chain: Chain, postgres: Postgres) -> None:
    event = request_created(request_id="again").but(knativeerrorcode="503", knativeerrordest="http://upsert/")
    headers = {**event.headers, "authorization": f"Bearer {chain.broker.tokens['trigger']}"}
    answer = call("POST", chain.functions["dead-letter"].url + "/", body=event.body, headers=headers)
    assert answer.status == 204, answer.body
    wait_for(lambda: (row(postgres, "again") or [""])[0] == "completed", "the request is completed")


class TestPlantedMistakes:
    """Knative would not mind any of these, and each has every event refused."""

    @staticmethod
    def validate(text: str, place: Path) -> str:
        place.write_text(text)
        done = run("knative", "validate", "-oidc", str(place))
        assert done.returncode == 1
        return done.stderr

    def test_a_trigger_that_names_no_audience(self, tmp_path: Path) -> None:
        documents = list(yaml.safe_load_all(render("oidc")))
        [trigger] = [one for one in documents if one and one["metadata"]["name"] == "session-upsert-request-created"]
        del trigger["spec"]["subscriber"]["audience"]
        said = self.validate(yaml.safe_dump_all(documents), tmp_path / "out.yaml")
        assert "Trigger session-upsert-request-created does not name the audience of its subscriber" in said

    def test_a_trigger_whose_identity_the_functions_do_not_take(self, tmp_path: Path) -> None:
        text = render("oidc").replace("system:serviceaccount:agents:session-upsert-request-created*", "someone")
        said = self.validate(text, tmp_path / "out.yaml")
        assert "Trigger session-upsert-request-created sends as system:serviceaccount:agents:session-upsert-" in said

    def test_a_broker_whose_letters_are_refused(self, tmp_path: Path) -> None:
        documents = list(yaml.safe_load_all(render("oidc")))
        [broker] = [one for one in documents if one and one["kind"] == "Broker"]
        del broker["spec"]["delivery"]["deadLetterSink"]["audience"]
        said = self.validate(yaml.safe_dump_all(documents), tmp_path / "out.yaml")
        assert "Broker self-service-agent does not name the audience of its dead-letter sink" in said

    def test_the_feature_is_off(self, tmp_path: Path) -> None:
        path = tmp_path / "out.yaml"
        path.write_text(render("oidc"))
        done = run("knative", "validate", str(path))
        assert done.returncode == 1
        assert "EventPolicy self-service-agent: oidc-authentication feature not enabled" in done.stderr
