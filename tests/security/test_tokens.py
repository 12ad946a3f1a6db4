"""AUTH_MODE=jwt under attack: only a token that the issuer signed for us, for now, makes a caller."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from common.errors import Unauthenticated
from common.jwt import TokenVerifier
from tests.parts.functions import Function
from tests.parts.net import Answer, call, problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES
from tests.security.conftest import started
from tests.security.issuer import AUDIENCE, KID, Issuer, encoded, hs256, new_key, unsigned

FORGERIES: dict[str, Callable[[Issuer], str]] = {
    "no signature, alg none": lambda i: unsigned({"alg": "none", "typ": "JWT", "kid": KID}, i.claims()),
    "no signature, alg None": lambda i: unsigned({"alg": "None", "kid": KID}, i.claims()),
    "no signature, alg missing": lambda i: unsigned({"kid": KID}, i.claims()),
    "HS256 with the public key": lambda i: hs256(i.public_pem(), i.claims()),
    "HS256 with the JWKS": lambda i: hs256(i.jwks(), i.claims()),
    "HS256 with nothing": lambda i: hs256(b"", i.claims()),
    "another key, the same kid": lambda i: i.token(key=new_key()),
    "an unknown kid": lambda i: i.token(kid="key-2"),
    "a kid that is a path": lambda i: i.token(kid="../../dev/null"),
    "no kid": lambda i: i.token(kid=None),
    "its own key in the header": lambda i: own_key_in_header(i),
    "another issuer": lambda i: i.token(iss="https://evil.example.com"),
    "no issuer": lambda i: i.token(iss=None),
    "another audience": lambda i: i.token(aud="another-service"),
    "no audience": lambda i: i.token(aud=None),
    "an audience that ours is part of": lambda i: i.token(aud=AUDIENCE + "-admin"),
    "expired": lambda i: i.token(exp=i.claims()["iat"] - 31),
    "no expiry": lambda i: i.token(exp=None),
    "an expiry that is no number": lambda i: i.token(exp="never"),
    "not yet valid": lambda i: i.token(nbf=i.claims()["iat"] + 3600),
    "issued in the future": lambda i: i.token(iat=i.claims()["iat"] + 3600),
    "no subject": lambda i: i.token(sub=None),
    "an empty subject": lambda i: i.token(sub=""),
    "a subject that is a list": lambda i: with_claims(i, sub=["ann"]),
    "changed claims": lambda i: changed_claims(i),
    "a cut signature": lambda i: i.token()[:-8],
    "two parts": lambda i: i.token().rpartition(".")[0],
    "no JSON": lambda i: f"{encoded(b'{')}.{encoded(b'x')}.{encoded(b'x')}",
    "no UTF-8": lambda i: f"{encoded(bytes([255]))}.{encoded(bytes([254]))}.x",
    "JSON that never ends": lambda i: f"{encoded(b'[' * 9000)}.{encoded(b'{}')}.x",
    "very long": lambda i: i.token(padding="x" * 20_000),
}


def own_key_in_header(issuer: Issuer) -> str:
    """A token that brings the key it is to be verified with (jwk and jku, RFC 7515): nobody may look there."""
    import jwt

    key = new_key()
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    headers = {"kid": KID, "jwk": public, "jku": "http://127.0.0.1:9/jwks"}
    return jwt.encode(issuer.claims(), key, algorithm="RS256", headers=headers)


def with_claims(issuer: Issuer, **claims: Any) -> str:
    import jwt

    whole = jwt.PyJWS().encode(
        json.dumps({**issuer.claims(), **claims}).encode(), issuer.key, algorithm="RS256", headers={"kid": KID}
    )
    return str(whole)


def changed_claims(issuer: Issuer) -> str:
    head, _, signature = issuer.token("mallory").split(".")
    return f"{head}.{encoded(json.dumps(issuer.claims('ann')).encode())}.{signature}"


def settings_of(issuer: Issuer, broker: str) -> dict[str, str]:
    return {
        "AUTH_MODE": "jwt",
        "JWT_JWKS_URL": issuer.jwks_url,
        "JWT_ISSUER": issuer.url,
        "JWT_AUDIENCE": AUDIENCE,
        "BROKER_URL": broker,
    }


@pytest.fixture(scope="module")
def functions(issuer_server: Issuer, recorder: Recorder, postgres_server: Postgres) -> Iterator[dict[str, Function]]:
    settings = {**postgres_server.environment(), **settings_of(issuer_server, recorder.url)}
    yield from started(("ingest-web", "ingest-cli", "request-status"), settings)


def ask(function: Function, token: str | None, user: str = "ann", **headers: str) -> Answer:
    """POST the document's body as `user`, or read a request."""
    given = {"authorization": f"Bearer {token}"} if token is not None else {}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    if function.name == "request-status":
        return call("GET", function.url + "/api/v1/requests/none", headers=given)
    body = {**BODIES[function.name.removeprefix("ingest-")], "user_id": user}
    return call("POST", function.url, json_body=body, headers=given)


NAMES = ("ingest-web", "ingest-cli", "request-status")


@pytest.mark.parametrize("name", NAMES)
def test_a_good_token_makes_its_subject_the_caller(functions: dict[str, Function], issuer: Issuer, name: str) -> None:
    assert ask(functions[name], issuer.token("ann")).status == (404 if name == "request-status" else 202)


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("name", NAMES)
def test_a_forged_token_is_401_and_changes_nothing(
    functions: dict[str, Function], recorder: Recorder, issuer: Issuer, name: str, forgery: str
) -> None:
    recorder.clear()
    answer = ask(functions[name], FORGERIES[forgery](issuer))
    document = problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert set(document) == {"type", "title", "status", "detail"}
    assert recorder.events == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YW5uOmFubg==", "ann"])
def test_what_is_no_bearer_token_is_401(functions: dict[str, Function], issuer: Issuer, name: str, header: str) -> None:
    problem(ask(functions[name], None, authorization=header), 401)


@pytest.mark.parametrize("name", ["ingest-web", "ingest-cli"])
def test_a_good_token_of_another_person_is_403(
    functions: dict[str, Function], recorder: Recorder, issuer: Issuer, name: str
) -> None:
    recorder.clear()
    problem(ask(functions[name], issuer.token("mallory"), user="ann"), 403)
    assert recorder.events == []


@pytest.mark.parametrize("name", NAMES)
def test_regression_any_bearer_with_x_user_id_was_any_user(
    functions: dict[str, Function], recorder: Recorder, issuer: Issuer, name: str
) -> None:
    recorder.clear()
    problem(ask(functions[name], "anything", x_user_id="ann", x_gateway_secret=""), 401)
    problem(ask(functions[name], None, x_user_id="ann"), 401)
    if name != "request-status":
        problem(ask(functions[name], issuer.token("mallory"), user="ann", x_user_id="ann"), 403)
    assert recorder.events == []


def test_tokens_with_unknown_kids_do_not_make_us_ask_the_issuer_each_time(
    functions: dict[str, Function], issuer: Issuer
) -> None:
    assert ask(functions["ingest-web"], issuer.token("ann")).status == 202
    before = issuer.fetches
    for number in range(20):
        problem(ask(functions["ingest-web"], issuer.token(kid=f"unknown-{number}")), 401)
    assert issuer.fetches - before <= 1


class TestIssuerAway:
    """Nobody is let in, and nobody is told that their token is wrong."""

    @pytest.mark.parametrize("broken", [(500, b""), (302, b""), (200, b"no JSON"), (200, b'"x"'), (200, b'{"keys": []}')])
    def test_503_and_the_issuer_is_not_asked_by_every_request(
        self, serve: Callable[..., Function], recorder: Recorder, issuer: Issuer, broken: tuple[int, bytes]
    ) -> None:
        function = serve("ingest-web", settings_of(issuer, recorder.url))
        recorder.clear()
        issuer.broken = broken
        asked = issuer.fetches
        for _ in range(5):
            answer = ask(function, issuer.token("ann"))
            problem(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
        assert issuer.fetches == asked + 1
        assert recorder.events == []

    def test_nothing_listens(self, serve: Callable[..., Function], recorder: Recorder, issuer: Issuer) -> None:
        function = serve("ingest-web", {**settings_of(issuer, recorder.url), "JWT_JWKS_URL": "http://127.0.0.1:9/jwks"})
        problem(ask(function, issuer.token("ann")), 503)
        problem(ask(function, hs256(b"", issuer.claims())), 503)


def test_a_key_that_the_issuer_withdrew_is_refused(issuer: Issuer) -> None:
    tokens = TokenVerifier(jwks_url=issuer.jwks_url, issuer=issuer.url, audience=AUDIENCE, lifespan=0.01)
    leaked = issuer.token("ann")
    assert tokens.subject(leaked) == "ann"
    issuer.published = {"key-2": new_key()}
    time.sleep(0.02)  # the keys are older than their lifespan
    with pytest.raises(Unauthenticated):
        tokens.subject(leaked)
