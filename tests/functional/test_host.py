"""What the host does for every function: health, metrics, draining, settings that are wrong."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from urllib3.exceptions import HTTPError

from tests.parts.functions import ROOT, Function
from tests.parts.net import call, free_port, problem
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import GATEWAY_SECRET, settings_of_ingest

FUNCTIONS = sorted(path.parent.name for path in ROOT.glob("functions/*/func.py"))


def settings_of_all(postgres: Postgres, recorder: Recorder) -> dict[str, str]:
    return {
        **postgres.environment(),
        **settings_of_ingest(recorder.url),
        "LLAMA_STACK_URL": f"http://127.0.0.1:{free_port()}",
        "SLACK_BOT_TOKEN": "xoxb-test",
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_health_metrics_and_ends_with_0(
    name: str, serve: Callable[..., Function], postgres: Postgres, recorder: Recorder
) -> None:
    function = serve(name, settings_of_all(postgres, recorder))
    for path in ("/health", "/health/liveness", "/health/readiness"):
        assert function.get(path).status == 200, path
    metrics = function.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    for metric in (
        "self_service_agent_request_processing_seconds",
        "self_service_agent_sessions_total",
        "self_service_agent_events_published_total",
    ):
        assert metric in metrics.body.decode()
    has_database = name in HEAVY["psycopg"]
    assert ("self_service_agent_database_up" in metrics.body.decode()) == has_database
    problem(function.get("/no/such/path"), 404)
    assert function.stop() == 0
    assert function.log()[-1]["message"] == "stopped"
    assert "Traceback" not in function.output()


class TestDraining:
    def test_a_request_in_flight_is_finished_and_no_new_connection_taken(
        self, serve: Callable[..., Function], postgres: Postgres
    ) -> None:
        function = serve(
            "request-status", {**postgres.environment(), "AUTH_MODE": "gateway", "GATEWAY_SECRET": GATEWAY_SECRET}
        )
        with ThreadPoolExecutor() as pool:
            path = "/api/v1/requests/r1?wait=1.5"
            waiting = pool.submit(function.get, path, x_gateway_secret=GATEWAY_SECRET, x_user_id="ann")
            time.sleep(0.4)  # let it be in flight
            function.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 1
            while not waiting.done():
                try:
                    socket.create_connection(("127.0.0.1", function.port), timeout=1).close()
                except (ConnectionError, TimeoutError):  # refused, reset by the close that it came too late for, or dropped
                    break
                assert time.monotonic() < deadline, "new connections are still taken"
            else:
                pytest.fail("the request ended before the port was closed")
            assert waiting.result(10).status == 404
        assert function.process.wait(10) == 0

    def test_an_idle_keep_alive_connection_does_not_hold_it_up(
        self, serve: Callable[..., Function], recorder: Recorder
    ) -> None:
        function = serve("ingest-web", settings_of_ingest(recorder.url))
        with socket.create_connection(("127.0.0.1", function.port)) as idle:
            idle.sendall(b"GET /health/liveness HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(4096).startswith(b"HTTP/1.1 200")
            started = time.monotonic()
            assert function.stop() == 0
            assert time.monotonic() - started < 5

    def test_what_outlives_the_draining_time_is_cut_off_or_told_to_come_back(
        self, serve: Callable[..., Function], postgres: Postgres
    ) -> None:
        settings = {
            **postgres.environment(),
            "AUTH_MODE": "gateway",
            "GATEWAY_SECRET": GATEWAY_SECRET,
            "DRAIN_SECONDS": "0.5",
        }
        function = serve("request-status", settings)

        def wait() -> int:
            try:
                return function.get("/api/v1/requests/r1?wait=30", x_gateway_secret=GATEWAY_SECRET, x_user_id="ann").status
            except HTTPError:
                return 503

        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(wait)
            time.sleep(0.4)  # let it be in flight
            started = time.monotonic()
            assert function.stop() == 0
            assert time.monotonic() - started < 8
            assert waiting.result(5) == 503


def start_badly(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "common.host", f"functions/{name}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "BROKER_URL": "http://127.0.0.1:9/", "AUTH_MODE": "none", **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("session-upsert", "LOG_LEVEL", "LOUD"),
        ("session-upsert", "PORT", "http"),
        ("session-upsert", "THREADS", "0"),
        ("session-upsert", "POSTGRES_PORT", "70000"),
        ("session-upsert", "POOL_MAX", "many"),
        ("session-upsert", "POSTGRES_PREPARE", "perhaps"),
        ("session-upsert", "POSTGRES_PASSWORD", "/no/such/file"),
        ("ingest-web", "AUTH_MODE", "magic"),
        ("ingest-web", "AUTH_MODE", "gateway"),
        ("ingest-web", "BROKER_URL", "broker"),
        ("ingest-web", "K_SINK", "ftp://x"),
        ("ingest-web", "MAX_BODY_BYTES", "-1"),
        ("ingest-tool", "TOOL_KEYS", "local-tool-key"),
        ("ingest-tool", "TOOL_KEYS", '{"t": ["not-a-hash"]}'),
        ("agent-invoke", "LLAMA_STACK_URL", "llamastack"),
        ("agent-invoke", "AGENT_TIMEOUT", "soon"),
        ("agent-invoke", "DEFAULT_AGENT_ID", "nobody"),
        ("agent-invoke", "AGENTS_DIR", "/no/such/directory"),
        ("response-dispatch", "WEBHOOK_SECRETS", "whsec-alone"),
        ("dead-letter", "DEAD_LETTER_RESENDS", "x"),
    ],
)
def test_a_wrong_setting_ends_it_with_one_line_that_names_it(name: str, variable: str, value: str) -> None:
    ended = start_badly(name, **{variable: value})
    assert ended.returncode == 78, ended.stderr
    [line] = ended.stderr.strip().splitlines()
    expected = "GATEWAY_SECRET" if value == "gateway" else variable
    assert expected in line or value in line
    if variable in ("TOOL_KEYS", "WEBHOOK_SECRETS"):
        assert value not in line


def test_no_authentication_is_refused_in_a_cluster_unless_switched_on() -> None:
    ended = start_badly("ingest-web", AUTH_MODE="none", KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert ended.returncode == 78
    assert "AUTH_MODE" in ended.stderr


def test_a_taken_port_is_said(recorder: Recorder) -> None:
    ended = start_badly("session-upsert", PORT=str(recorder.port))
    assert ended.returncode == 78
    assert "PORT" in ended.stderr


def test_an_exception_of_the_function_is_500_and_shows_nothing(tmp_path: Path) -> None:
    (tmp_path / "func.py").write_text(
        "from common.function import Function\n"
        "function = Function('broken', 'ingest')\n"
        "def main(context):\n    raise RuntimeError('a secret detail')\n"
    )
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "common.host", str(tmp_path)],
        cwd=ROOT,
        env={"PORT": str(port)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()  # listening
        answer = call("POST", f"http://127.0.0.1:{port}/", json_body={})
        document = problem(answer, 500)
        assert "secret detail" not in json.dumps(document)
    finally:
        process.terminate()
        assert process.wait(10) == 0


def imported_by(name: str, environment: dict[str, str]) -> set[str]:
    """The packages that importing a function's func.py brings in."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import func; "
        "print(' '.join(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, f"functions/{name}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    return set(ran.stdout.split())


HEAVY: dict[str, tuple[str, ...]] = {
    "psycopg": ("session-upsert", "agent-invoke", "response-dispatch", "dead-letter", "request-status", "session-sweep"),
    "slack_sdk": ("ingest-slack", "response-dispatch"),
    "standardwebhooks": ("response-dispatch",),
    "yaml": ("agent-invoke",),
    "jwt": (),
    "httpx": (),
    "llama_stack_client": (),
    "pydantic_settings": (),
    "requests": (),
    "opentelemetry": (),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_imports_nothing_that_only_others_need(name: str) -> None:
    settings: dict[str, Any] = {**settings_of_ingest("http://127.0.0.1:9/"), "LLAMA_STACK_URL": "http://127.0.0.1:9"}
    found = imported_by(name, settings)
    assert {package for package, users in HEAVY.items() if package in found and name not in users} == set()
