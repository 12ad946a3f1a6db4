"""The function host: `python -m common.host DIRECTORY` serves the function whose func.py is there.

parliament makes the app, as `python -m parliament` would; the host adds health, metrics, the paths behind a gateway, a body
limit, one log line a request, and the one place where an error becomes a status. A wrong setting ends it at once with one
line and exit code 78 (EX_CONFIG).
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import flask
from cloudevents.http import CloudEvent
from flask import Flask, Request, Response
from parliament import Context
from parliament import server as parliament_server
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException

from common import events, events_auth, faults, logs, metrics, settings, tracing
from common.answers import Answer
from common.errors import Malformed, ServiceError, SettingError, TooLarge, Unavailable
from common.function import Draining, Function, Part
from common.problems import from_error, from_http_exception, internal_error
from common.server import Server

log = logging.getLogger("common.host")

_FEW_THREADS = 1
MAX_EVENT_BYTES = 1024 * 1024 + 64 * 1024  # a Kafka record (1 MiB) and its attributes


class Host:
    """One function behind HTTP. `app` is its WSGI app."""

    def __init__(self, function: Function, module: ModuleType) -> None:
        self.function = function
        self.limit = settings.integer("MAX_BODY_BYTES", 256 * 1024, least=1024, most=16 * 1024 * 1024)
        if function.kind == "event":
            self.limit = max(self.limit, MAX_EVENT_BYTES)
        self.draining: Callable[[], bool] = lambda: False
        self._main = module.main
        self._sender = events_auth.event_sender() if function.kind == "event" else None
        self.app: Flask = parliament_server.create(SimpleNamespace(main=self.handle))
        self.app.logger.disabled = True  # parliament warns of every POST that is no CloudEvent
        self._add_routes()

    def _add_routes(self) -> None:
        app, function = self.app, self.function
        app.url_map.strict_slashes = False
        app.view_functions["handle_post"] = app.view_functions["handle_get"] = self._routed
        for rule in function.paths:
            methods = ["GET"] if function.kind == "read" else ["POST"]
            app.add_url_rule(rule, rule, self._routed, methods=methods)
        for rule in function.pages:
            app.add_url_rule(rule, rule, self._routed, methods=["GET"])
        app.add_url_rule("/health", "health", self._readiness)
        app.view_functions["readiness"] = self._readiness
        app.add_url_rule("/metrics", "metrics", _metrics)
        metrics.show_build(function.name)
        app.register_error_handler(HTTPException, from_http_exception)
        self._posts = {rule.rule: rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())}
        self._by_routing = app.wsgi_app
        app.wsgi_app = self._enter  # type: ignore[method-assign]  # as Flask's documentation wraps an app

    def _enter(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Requests and events that are posted go to `main` past Flask's routing and contexts, half of what a request costs
        (docs/performance.md); all others take its way."""
        rule = self._posts.get(environ["PATH_INFO"]) if environ["REQUEST_METHOD"] == "POST" else None
        if rule is None:
            return self._by_routing(environ, start_response)
        request = Request(environ)
        request.url_rule = rule
        return self.app.make_response(self._answer(request))(environ, start_response)

    def _routed(self, **_parts: str) -> Any:
        return self._answer(flask.request._get_current_object())  # type: ignore[attr-defined]  # of a LocalProxy

    def _answer(self, request: Request) -> Any:
        """What a request is answered. Only event functions are given CloudEvents, and only by our broker: what others send
        is refused before anything of it is read."""
        if self._sender is None:
            return self.handle(Context(request))
        started = time.perf_counter()
        try:
            self._sender.verify(request)
            self._check_size(request)
        except ServiceError as error:
            self._record(error.status, time.perf_counter() - started, error.detail)
            return from_error(error)
        context = Context(request)
        context.cloud_event = events.from_request(request)
        return self.handle(context)

    def _check_size(self, request: Request) -> None:
        if "Transfer-Encoding" in request.headers:  # waitress takes it away where it means something: HTTP/1.1
            raise Malformed("Transfer-Encoding needs HTTP/1.1.")
        if (request.content_length or 0) > self.limit:
            raise TooLarge(f"The body is larger than {self.limit} bytes.")

    def handle(self, context: Context) -> Any:
        """Run the function's `main` on one request or event: ids for the logs, time, and errors turned into answers."""
        started = time.perf_counter()
        event = context.cloud_event
        ids: dict[str, str | None] = {}
        detail: str | None = None
        if event is not None:
            trace = event.get("traceparent") or ""
            ids = {
                "request_id": event.get("requestid") or event.get("subject"),
                "session_id": event.get("sessionid"),
                "event_id": event["id"],
                "event_type": event["type"],
                "trace_id": trace[3:35] or None,
            }
        with logs.ids(**ids), tracing.handling(context.request, event) as span:
            try:
                self._check_size(context.request)
                answer = self._main(context)
                faults.point("reply")
                if isinstance(answer, CloudEvent):
                    # The broker stores it, or brings the event again.
                    metrics.PUBLISHED.labels(answer["type"], "success").inc()
                    headers, body = events.to_http(answer)
                    answer = Answer(body, 200, headers)
                status = _status_of(answer)
            except ServiceError as error:
                answer, status, detail = from_error(error), error.status, error.detail
            except HTTPException as error:
                answer, status = from_http_exception(error), error.code or 500
            except Exception:
                log.exception("the function failed")
                answer, status = internal_error(), 500
            span.note(status=status)
            self._record(status, time.perf_counter() - started, detail)
        return answer

    def _record(self, status: int, seconds: float, detail: str | None) -> None:
        metrics.HANDLED.labels(self.function.name, str(status)).observe(seconds)
        level = logging.INFO if status < 400 else logging.ERROR if status == 500 else logging.WARNING
        if log.isEnabledFor(level):
            extra: dict[str, Any] = {"status": status, "duration_ms": round(seconds * 1000, 2)}
            if detail:
                extra["detail"] = detail
            log.log(level, "handled", extra=extra)

    def _readiness(self) -> Response:
        failing = {}
        for need in self.function.needs:
            try:
                need.check()
            except ServiceError as error:
                failing[need.name] = error.detail
        if self.draining():
            failing["host"] = "The function is stopping."
        if failing:
            return from_error(Unavailable(" ".join(f"{name}: {why}" for name, why in failing.items())))
        return Response('{"status":"ok"}', content_type="application/json")


def _metrics() -> Response:
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def _status_of(answer: Any) -> int:
    if isinstance(answer, Response):
        return answer.status_code
    if isinstance(answer, tuple) and len(answer) > 1 and isinstance(answer[1], int):
        return answer[1]
    return 200


def main(directory: str) -> int:
    """Serve the function in `directory` until SIGTERM; the process's exit code."""
    try:
        here = Path(directory).resolve()
        logs.configure(here.name)
        faults.switch_on()
        sys.path.insert(
            0, str(here)
        )  # parliament appends it: a package of the same name would come before the function's module
        module = parliament_server.load(directory)
        function: Function = module.function
        logs.configure(function.name)
        tracing.switch_on(function.name)
        address = settings.text("HOST", "0.0.0.0")
        port = settings.integer("PORT", 8080, least=1, most=65535)
        threads = settings.integer("THREADS", 16, least=1, most=1000)
        drain = settings.number("DRAIN_SECONDS", 300, least=0, most=3600)
        host = Host(function, module)
        few = _FEW_THREADS if function.kind == "ingest" else threads  # they wait for the broker alone, and not for long
        server = Server(
            host.app, host=address, port=port, threads=threads, few=few, body_limit=host.limit, drain_seconds=drain
        )
    except SettingError as error:
        sys.stderr.write(f"{directory}: {error}\n")
        return 78
    except OSError as error:
        sys.stderr.write(f"{directory}: PORT cannot be listened on: {error.strerror}\n")
        return 78
    host.draining = lambda: server.draining
    metrics.watch_threads(threads, server.load)
    parts = (*function.needs, *function.parts)
    for part in parts:
        part.start()
    gc.freeze()  # what was imported stays: no collection has to look through it again
    server.run(
        on_listening=lambda: log.info("listening", extra={"port": port, "threads": threads}),
        on_stopping=lambda: _drain(parts),
    )
    for part in reversed(parts):
        part.close()
    tracing.close()
    log.info("stopped")
    return 0


def _drain(parts: Iterable[Part]) -> None:
    for part in parts:
        if isinstance(part, Draining):
            part.drain()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m common.host DIRECTORY")
    sys.exit(main(sys.argv[1]))
