"""Event functions refuse what does not come from the broker, once they are told how to know it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.local.broker.answers import Answer as BrokerAnswer
from infra.local.broker.sender import Sender
from tests.functional.test_host import start_badly
from tests.parts.events import request_created
from tests.parts.functions import ROOT, Event, Function
from tests.parts.net import Answer, call, free_port, problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import settings_of_ingest
from tests.security.issuer import Issuer, hs256, new_key, unsigned
from tests.security.test_tokens import FORGERIES

TOKEN = "a-shared-token-of-the-broker"  # pragma: allowlist secret
AUDIENCE = "serving.knative.dev/service/default/session-upsert"
TRIGGER = "system:serviceaccount:default:session-upsertoidc-eventing.knative.dev-trigger"
EVENT_FUNCTIONS = [
    path.parent.name for path in sorted(ROOT.glob("functions/*/func.py")) if '"event"' in path.read_text(encoding="utf-8")
]


def deliver(function: Function, event: Event, authorization: str | None) -> Answer:
    extra = {} if authorization is None else {"authorization": authorization}
    return call("POST", function.url + "/", body=event.body, headers={**event.headers, **extra})


def rows(postgres: Postgres) -> int:
    return int(postgres.query("SELECT (SELECT count(*) FROM request_logs) + (SELECT count(*) FROM dead_letters)")[0][0])


def test_there_are_event_functions() -> None:
    assert {"session-upsert", "agent-invoke", "response-dispatch", "dead-letter"} <= set(EVENT_FUNCTIONS)


@pytest.mark.parametrize("name", EVENT_FUNCTIONS)
def test_every_event_function_asks_for_the_token_before_it_reads_the_event(
    serve: Callable[..., Function], postgres: Postgres, recorder: Recorder, name: str
) -> None:
    recorder.clear()
    settings = {
        **postgres.environment(),
        **settings_of_ingest(recorder.url),
        "LLAMA_STACK_URL": f"http://127.0.0.1:{free_port()}",
        "EVENTS_TOKEN": TOKEN,
    }
    function = serve(name, settings)
    event = request_created(request_id="r1")
    for wrong in (None, "", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"):
        problem(deliver(function, event, wrong), 401)
        problem(deliver(function, Event({"content-type": "application/json"}, b"{"), wrong), 401)
        # A GET with an event's headers reaches the handler too.
        extra = {} if wrong is None else {"authorization": wrong}
        problem(call("GET", function.url + "/", body=event.body, headers={**event.headers, **extra}), 401)
    assert rows(postgres) == 0
    assert recorder.events == []
    # With the token it is read, and judged as before.
    assert deliver(function, event.but(type="unknown"), f"Bearer {TOKEN}").status != 401
    assert function.get("/health").status == 200
    refused = [line for line in function.log() if line["message"] == "handled" and line["status"] == 401]
    assert refused
    assert all(line["level"] == "WARNING" for line in refused)


@pytest.fixture(scope="module")
def upsert(postgres_server: Postgres, issuer_server: Issuer) -> Iterator[Function]:
    function = Function("session-upsert", {**postgres_server.environment(), **oidc(issuer_server)})
    yield function
    function.close()


def oidc(issuer: Issuer, **changes: str) -> dict[str, str]:
    return {
        "EVENTS_OIDC_AUDIENCE": AUDIENCE,
        "EVENTS_OIDC_ISSUER": issuer.url,
        "EVENTS_OIDC_JWKS_URL": issuer.jwks_url,
        "EVENTS_OIDC_SUBJECTS": "system:serviceaccount:default:session-upsertoidc-*, system:serviceaccount:default:replay",
        **changes,
    }


def broker_token(issuer: Issuer, subject: str = TRIGGER, **changes: Any) -> str:
    return issuer.token(subject, **{"aud": AUDIENCE, **changes})


class TestOidc:
    """Knative's sender identity."""

    def test_the_triggers_token_is_accepted(self, upsert: Function, postgres: Postgres, issuer: Issuer) -> None:
        # Kubernetes writes the audience as a list.
        for token in (broker_token(issuer), broker_token(issuer, aud=["other", AUDIENCE])):
            reply = deliver(upsert, request_created(request_id="r1"), f"Bearer {token}")
            assert Event.of(reply).attribute("id") == "r1.session"
        assert rows(postgres) == 1

    @pytest.mark.parametrize("forgery", FORGERIES)
    def test_a_forged_token_is_401(self, upsert: Function, postgres: Postgres, issuer: Issuer, forgery: str) -> None:
        problem(deliver(upsert, request_created(), f"Bearer {FORGERIES[forgery](issuer)}"), 401)
        assert rows(postgres) == 0

    @pytest.mark.parametrize(
        "forged",
        [
            lambda i: broker_token(i, key=new_key()),
            lambda i: broker_token(i, exp=1),
            lambda i: broker_token(i, iss="https://evil.example.com"),
            lambda i: hs256(i.public_pem(), i.claims(TRIGGER, aud=AUDIENCE)),
            lambda i: unsigned({"alg": "none"}, i.claims(TRIGGER, aud=AUDIENCE)),
            lambda i: broker_token(i, aud="serving.knative.dev/service/default/another"),
        ],
    )
    def test_a_forged_token_for_our_audience_is_401(
        self, upsert: Function, postgres: Postgres, issuer: Issuer, forged: Callable[[Issuer], str]
    ) -> None:
        problem(deliver(upsert, request_created(), f"Bearer {forged(issuer)}"), 401)
        assert rows(postgres) == 0

    @pytest.mark.parametrize(
        "subject",
        [
            "system:serviceaccount:default:some-pod",
            "system:serviceaccount:other:session-upsertoidc-eventing.knative.dev-trigger",
            "system:serviceaccount:default:replay2",
            "x",
        ],
    )
    def test_another_pods_token_for_our_audience_is_403(
        self, upsert: Function, postgres: Postgres, issuer: Issuer, subject: str
    ) -> None:
        """Any pod may ask the cluster for a token with an audience of its choice."""
        problem(deliver(upsert, request_created(), f"Bearer {broker_token(issuer, subject)}"), 403)
        assert rows(postgres) == 0

    def test_503_while_the_cluster_does_not_answer_so_that_the_broker_retries(
        self, serve: Callable[..., Function], postgres: Postgres, issuer: Issuer
    ) -> None:
        function = serve("session-upsert", {**postgres.environment(), **oidc(issuer)})
        issuer.broken = (503, b"")
        problem(deliver(function, request_created(), f"Bearer {broker_token(issuer)}"), 503)
        assert rows(postgres) == 0

    def test_either_proof_is_enough_when_both_are_configured(
        self, serve: Callable[..., Function], postgres: Postgres, issuer: Issuer
    ) -> None:
        function = serve("session-upsert", {**postgres.environment(), **oidc(issuer), "EVENTS_TOKEN": TOKEN})
        assert deliver(function, request_created(), f"Bearer {TOKEN}").status == 200
        assert deliver(function, request_created(), f"Bearer {broker_token(issuer)}").status == 200
        problem(deliver(function, request_created(), "Bearer neither"), 401)
        problem(deliver(function, request_created(), None), 401)


@pytest.mark.parametrize(
    ("variable", "settings"),
    [
        ("EVENTS_TOKEN", {"EVENTS_TOKEN": "short"}),
        ("EVENTS_TOKEN", {"EVENTS_TOKEN": "/no/such/file"}),
        ("EVENTS_OIDC_SUBJECTS", {"EVENTS_OIDC_AUDIENCE": "a"}),
        ("EVENTS_OIDC_AUDIENCE", {"EVENTS_OIDC_SUBJECTS": "a"}),
        ("EVENTS_OIDC_ISSUER", {"EVENTS_OIDC_AUDIENCE": "a", "EVENTS_OIDC_SUBJECTS": "b"}),
        ("EVENTS_OIDC_JWKS_URL", {"EVENTS_OIDC_JWKS_URL": "file:///etc/passwd"}),
    ],
)
def test_a_half_configured_check_stops_the_function(variable: str, settings: dict[str, str]) -> None:
    """Never: set wrongly, therefore accepted."""
    whole = {"EVENTS_OIDC_ISSUER": "https://i", "EVENTS_OIDC_JWKS_URL": "https://i/k", "EVENTS_OIDC_AUDIENCE": "a"}
    given = settings if "OIDC_JWKS" not in variable else {**whole, "EVENTS_OIDC_SUBJECTS": "s", **settings}
    ended = start_badly("session-upsert", **given)
    assert ended.returncode == 78
    [line] = ended.stderr.strip().splitlines()
    assert "EVENTS_" in line
    assert variable.rpartition("_")[0] in line


def test_nothing_configured_accepts_and_says_so_once_in_a_cluster(
    serve: Callable[..., Function], postgres: Postgres
) -> None:
    in_cluster = serve("session-upsert", {**postgres.environment(), "K_SERVICE": "session-upsert"})
    local = serve("session-upsert", postgres.environment())
    for function in (in_cluster, local):
        assert function.post_event(request_created()).status == 200
    warnings = [line for line in in_cluster.log() if line["level"] == "WARNING"]
    assert [("EVENTS_TOKEN" in line["message"]) for line in warnings] == [True]
    assert [line for line in local.log() if line["level"] == "WARNING"] == []


def test_the_local_broker_sends_the_token(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    import asyncio

    from yarl import URL

    async def send() -> BrokerAnswer:
        async with Sender() as sender:
            event = request_created()
            return await sender.send(URL(recorder.url), event.headers, event.body, 5.0)

    recorder.clear()
    monkeypatch.setenv("EVENTS_TOKEN", TOKEN)
    assert asyncio.run(send()).status == 202
    monkeypatch.delenv("EVENTS_TOKEN")
    assert asyncio.run(send()).status == 202
    first, second = recorder.events
    assert first.headers["authorization"] == f"Bearer {TOKEN}"
    assert "authorization" not in second.headers


def test_a_forged_event_without_the_token_cannot_touch_a_stored_answer(
    serve: Callable[..., Function], postgres: Postgres, recorder: Recorder
) -> None:
    """Regression: an unauthenticated POST of a forged event overwrote the stored answer."""
    settings = {**postgres.environment(), "BROKER_URL": recorder.url, "EVENTS_TOKEN": TOKEN}
    upsert, letter = serve("session-upsert", settings), serve("dead-letter", settings)
    assert deliver(upsert, request_created(request_id="r1"), f"Bearer {TOKEN}").status == 200
    postgres.query("UPDATE request_logs SET status = 'completed', response_content = 'the answer', completed_at = now()")
    before = postgres.query("SELECT * FROM request_logs")
    forged = request_created(request_id="r1", content="forged").but(id="new", knativeerrorcode="500")
    for function in (upsert, letter):
        problem(deliver(function, forged, None), 401)
    assert postgres.query("SELECT * FROM request_logs") == before
    assert json.dumps(before, default=str).count("the answer") == 1
