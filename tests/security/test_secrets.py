"""A secret planted in every variable and header that may hold one: nothing that a function writes or answers shows it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.parts.events import PREFIX, event, request_created
from tests.parts.functions import ROOT, Event, Function
from tests.parts.net import Answer, call, free_port
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, sha256, slack_headers
from tests.security.issuer import AUDIENCE, Issuer

FUNCTIONS = sorted(path.parent.name for path in ROOT.glob("functions/*/func.py"))
PLANTED = {
    "GATEWAY_SECRET": "planted-gateway-secret-4711",  # pragma: allowlist secret
    "SLACK_SIGNING_SECRET": "planted-signing-secret-4711",  # pragma: allowlist secret
    "SLACK_BOT_TOKEN": "xoxb-planted-bot-token-4711",
    "LLAMA_STACK_API_KEY": "planted-llama-key-4711",  # pragma: allowlist secret
    "POSTGRES_PASSWORD": "planted-database-password-4711",  # pragma: allowlist secret
    "EVENTS_TOKEN": "planted-events-token-4711",
    "TOOL_KEYS": json.dumps({"snow-integration": [sha256("planted-tool-key-4711")]}),
    "WEBHOOK_SECRETS": json.dumps({"snow": "whsec_" + base64.b64encode(b"planted-webhook-secret-4711").decode()}),
}
# What a caller sends and is nobody else's business.
SENT = {
    "x-api-key": "planted-tool-key-4711",
    "x-gateway-secret": PLANTED["GATEWAY_SECRET"],
    "authorization": "Bearer planted-bearer-4711",
    "cookie": "session=planted-cookie-4711",
    "x-slack-signature": "v0=planted-signature-4711",
}
CONTENT = "planted-message-body-4711"
HIDDEN = (
    *(value for name, value in PLANTED.items() if name not in ("TOOL_KEYS", "WEBHOOK_SECRETS")),
    sha256("planted-tool-key-4711").removeprefix("sha256:"),
    base64.b64encode(b"planted-webhook-secret-4711").decode(),
    "planted-webhook-secret-4711",
    "planted-tool-key-4711",
    "planted-bearer-4711",
    "planted-cookie-4711",
    "planted-signature-4711",
    "planted-session-token-4711",
    CONTENT,
)
TELLTALES = ("Traceback", "Error(", "psycopg", "urllib3", "Exception", ".py", "line ")


class Exchange:
    """Everything that a function answered."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.answers: list[Answer] = []

    def send(self, method: str, path: str, body: bytes = b"", /, **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = call(method, self.function.url + path, body=body, headers=given)
        self.answers.append(answer)
        return answer

    def shows_nothing(self) -> None:
        for answer in self.answers:
            if "ce-type" in answer.headers:  # the next event, which carries the request on
                continue
            text = answer.body.decode(errors="replace") + str(answer.headers)
            assert not [secret for secret in HIDDEN if secret in text], answer
            if answer.headers.get("content-type") == "application/problem+json":
                assert not [word for word in TELLTALES if word in text], answer
        output = self.function.output()
        assert not [secret for secret in HIDDEN if secret in output], output[-3000:]
        assert "Traceback (most" not in output


def settings(recorder: Recorder, **changes: str) -> dict[str, str]:
    """Every variable set, everything verbose, and (unless changed) nothing that answers."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    return {
        **PLANTED,
        "LOG_LEVEL": "DEBUG",
        "AUTH_MODE": "gateway",
        "BROKER_URL": recorder.url,
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": str(free_port()),
        "LLAMA_STACK_URL": nowhere,
        "SLACK_API_URL": f"{nowhere}/api/",
        "WEBHOOK_URLS_ALLOWED": f"{nowhere}/",
        **changes,
    }


def attack(exchange: Exchange, events: list[Event]) -> None:
    """These events; good requests, wrong ones and broken ones; every path."""
    bodies = [{**body, "content": CONTENT, "session_token": "planted-session-token-4711"} for body in BODIES.values()]
    raws = [json.dumps(body).encode() for body in bodies] + [b"{" + CONTENT.encode(), json.dumps([CONTENT]).encode()]
    raws.append(json.dumps({"user_id": [CONTENT], "content": {CONTENT: 1}, CONTENT: 1, "tool_context": CONTENT}).encode())
    for body in raws:
        for headers in (SENT, {**SENT, **slack_headers(body, secret=PLANTED["SLACK_SIGNING_SECRET"])}):
            exchange.send("POST", "/", body, **headers, content_type="application/json", x_user_id="webuser123")
    bearer = f"Bearer {PLANTED['EVENTS_TOKEN']}"
    for one in events:
        exchange.send("POST", "/", one.body, **{**one.headers, "authorization": bearer})
    for path in ("/", "/health", "/health/readiness", "/metrics", "/api/v1/requests/r1", "/api/v1/sessions/s", "/none"):
        for method in ("GET", "POST", "PUT"):
            exchange.send(method, path, **SENT)
    exchange.send("GET", "/metrics")


def session_created(request: Event, **changes: Any) -> Event:
    data = {"session": {"session_id": "s", "opened": True}, "request": request.data(), **changes}
    return event(PREFIX + "session.created", "r1.session", data, requestid="r1")


def response_ready(request_id: str, integration: str) -> Event:
    data = {
        "request_id": request_id,
        "session_id": None,
        "integration_type": integration,
        "user_id": "ann",
        "status": "completed",
        "agent_id": "a",
        "content": CONTENT,
        "error": None,
        "completed_at": "2026-01-01T00:00:01Z",
    }
    return event(PREFIX + "agent.response-ready", f"{request_id}.response", data, requestid=request_id)


CREATED = request_created(request_id="r1", content=CONTENT)


def attack_all(settings_of: Callable[[str], dict[str, str]], events: Callable[[str], list[Event]]) -> None:
    """Attack every function, all at once: most of the time goes by in waiting for what does not answer."""

    def run(name: str) -> None:
        function = Function(name, settings_of(name), ready=False)
        try:
            exchange = Exchange(function)
            attack(exchange, events(name))
            assert function.process.poll() is None, name
            exchange.shows_nothing()
        finally:
            function.close()

    with ThreadPoolExecutor(len(FUNCTIONS)) as pool:
        for done in [pool.submit(run, name) for name in FUNCTIONS]:
            done.result()


def test_no_secret_shows_when_nothing_that_is_needed_answers(recorder: Recorder) -> None:
    recorder.clear()
    recorder.status = 503

    def events(name: str) -> list[Event]:
        return [
            {"agent-invoke": session_created(CREATED), "response-dispatch": response_ready("r1", "slack")}.get(name, CREATED)
        ]

    attack_all(lambda _name: settings(recorder), events)


def test_no_secret_shows_when_everything_works(
    serve: Callable[..., Function], postgres: Postgres, recorder: Recorder
) -> None:
    recorder.clear()
    recorder.status, recorder.answer_headers = 200, {"content-type": "application/json"}
    recorder.answer_body = b'{"ok": true, "ts": "1.1", "channel": "C1", "data": []}'
    upsert = serve("session-upsert", postgres.environment())
    for one in (
        request_created(request_id="slack", content="q", integration_type="slack", channel_id="C1", thread_id="1.0"),
        request_created(request_id="tool", content="q", integration_type="tool", integration_key="snow"),
    ):
        assert upsert.post_event(one).status == 200
    postgres.query(
        "UPDATE request_logs SET status = 'completed', response_content = %s, completed_at = now(), agent_id = 'a'", CONTENT
    )
    upsert.post_event(request_created(request_id="r1", content=CONTENT, conversation_key="another"))
    postgres.query(
        "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', 'snow', %s)",
        json.dumps({"webhook_url": f"{recorder.url}hook", "secret_ref": "snow"}),  # pragma: allowlist secret
    )
    working = {name: value for name, value in postgres.environment().items() if name.startswith("POSTGRES_")}
    working |= {"SLACK_API_URL": recorder.url + "slack/", "WEBHOOK_URLS_ALLOWED": recorder.url}
    working["LLAMA_STACK_URL"] = recorder.url.rstrip("/")
    events = [
        CREATED,
        CREATED.but(data={**CREATED.data(), "accepted_at": CONTENT}),
        CREATED.but(data={"content": CONTENT}),
        Event(CREATED.headers, CONTENT.encode()),
        response_ready("slack", "slack"),
        response_ready("tool", "tool"),
        session_created(CREATED),
        session_created(CREATED, session=CONTENT),
        CREATED.but(knativeerrordest="http://x", knativeerrorcode="500", knativeerrordata=CONTENT),
        event("dev.knative.sources.ping", "tick", {"body": CONTENT}),
    ]
    attack_all(lambda _name: settings(recorder, **working), lambda _name: events)
    # It was there to be shown: both answers were sent where they belong.
    sent = [path for path, one in zip(recorder.paths, recorder.events, strict=True) if CONTENT in one.body.decode()]
    assert "/hook" in sent
    assert "/slack/chat.postMessage" in sent


def test_a_wrong_database_password_is_not_shown(
    serve: Callable[..., Function], postgres: Postgres, recorder: Recorder
) -> None:
    database = {key: value for key, value in postgres.environment().items() if key.startswith("POSTGRES_")}
    function = serve(
        "session-upsert",
        settings(recorder, **{**database, "POSTGRES_PASSWORD": PLANTED["POSTGRES_PASSWORD"], "POSTGRES_USER": "nobody"}),
        ready=False,
    )
    exchange = Exchange(function)
    bearer = f"Bearer {PLANTED['EVENTS_TOKEN']}"
    created = request_created()
    assert exchange.send("POST", "/", created.body, **{**created.headers, "authorization": bearer}).status == 503
    exchange.send("GET", "/health")
    exchange.shows_nothing()


def test_a_token_is_not_shown_whether_good_or_bad(
    serve: Callable[..., Function], recorder: Recorder, issuer: Issuer
) -> None:
    changes = {"AUTH_MODE": "jwt", "JWT_JWKS_URL": issuer.jwks_url, "JWT_ISSUER": issuer.url, "JWT_AUDIENCE": AUDIENCE}
    recorder.clear()
    exchange = Exchange(serve("ingest-web", settings(recorder, **changes), ready=False))
    body = json.dumps({**BODIES["web"], "user_id": "ann", "content": CONTENT}).encode()
    tokens = [issuer.token("ann"), issuer.token("ann", exp=1), issuer.token("ann", kid="other"), "planted-bearer-4711"]
    for token in tokens:
        exchange.send("POST", "/", body, content_type="application/json", authorization=f"Bearer {token}")
    assert [answer.status for answer in exchange.answers] == [202, 401, 401, 401]
    exchange.shows_nothing()
    output = exchange.function.output()
    for token in tokens:
        assert token not in output
        assert token.rpartition(".")[2] not in output


BROKEN = """
from pydantic import BaseModel
from common.function import Function
class Body(BaseModel):
    number: int
function = Function("broken", "ingest")
def main(context):
    value = context.request.get_data().decode()
    try:
        Body.model_validate({"number": value})
    except ValueError as error:
        raise RuntimeError(f"while reading {value}") from error
"""


def test_an_exception_is_logged_by_class_and_place_not_by_what_it_says(tmp_path: Path) -> None:
    """An exception's text may quote what was read: pydantic shows the input, PostgreSQL the row."""
    (tmp_path / "func.py").write_text(BROKEN)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "common.host", str(tmp_path)],
        cwd=ROOT,
        env={"PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()  # listening
    answer = call("POST", f"http://127.0.0.1:{port}/", body=CONTENT.encode())
    process.terminate()
    output, _ = process.communicate(timeout=10)
    assert answer.status == 500
    [logged] = [json.loads(line) for line in output.splitlines() if "exc_info" in line]
    for told in ("RuntimeError", "ValidationError", "func.py", "common/host.py"):
        assert told in logged["exc_info"]
    assert CONTENT not in output
    assert CONTENT.encode() not in answer.body
