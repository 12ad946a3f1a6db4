"""The four ingest functions over real HTTP: without the broker nobody is told that a request was accepted."""

from __future__ import annotations

import json
import socket
import time

import pytest

from tests.functional.ingest.support import Caller
from tests.parts.functions import Function
from tests.parts.net import call, free_port, problem
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, credentials, settings_of_ingest


class TestNoBroker:
    def test_503_with_retry_after_within_3_s_and_unready(self, functions: dict[str, Function], recorder: Recorder) -> None:
        function = Function("ingest-web", settings_of_ingest(f"http://127.0.0.1:{free_port()}/"), ready=False)
        try:
            web = Caller("web", function, recorder)
            started = time.monotonic()
            answer = web.send(BODIES["web"])
            assert time.monotonic() - started < 3
            problem(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
            assert function.get("/health/readiness").status == 503
            assert function.get("/health/liveness").status == 200
        finally:
            function.close()

    def test_a_broker_that_hangs(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(50)
            function = Function(
                "ingest-web", settings_of_ingest(f"http://127.0.0.1:{silent.getsockname()[1]}/"), ready=False
            )
            try:
                raw = json.dumps(BODIES["web"]).encode()
                headers = {"content-type": "application/json", **credentials("web", raw, "webuser123")}
                started = time.monotonic()
                answer = call("POST", function.url, body=raw, headers=headers)
                assert time.monotonic() - started < 3
                problem(answer, 503)
            finally:
                function.close()

    @pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
    def test_a_broker_that_refuses(self, caller: Caller, status: int) -> None:
        caller.recorder.status = status
        problem(caller.send(BODIES[caller.integration]), 503)

    def test_a_broker_that_comes_back(self, recorder: Recorder) -> None:
        port = free_port()
        function = Function("ingest-web", settings_of_ingest(f"http://127.0.0.1:{port}/"), ready=False)
        try:
            web = Caller("web", function, recorder)
            problem(web.send(BODIES["web"]), 503)
            back = Recorder(port)
            assert web.send(BODIES["web"]).status == 202
            back.close()
            back = Recorder(port)  # the kept-open connection is dead now, which the caller must not notice
            assert web.send(BODIES["web"]).status == 202
            back.close()
        finally:
            function.close()
