"""The function host: `python -m common.host DIRECTORY` serves the function whose func.py is there.

parliament makes the app, as `python -m parliament` would; the host adds health, metrics, the paths behind a gateway, a body
limit, one log line a request, and the one place where an error becomes a status. A wrong setting ends it at once with one
line and exit code 78 (EX_CONFIG).
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from cloudevents.http import CloudEvent
from flask import Flask, Response, g, request
from parliament import Context
from parliament import server as parliament_server
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException

from common import events_auth, faults, logs, metrics, settings
from common.errors import ServiceError, SettingError, TooLarge, Unavailable
from common.events import to_http
from common.function import Draining, Function, Part
from common.problems import from_error, problem_document, problem_response
from common.server import Server

log = logging.getLogger("common.host")

MAX_EVENT_BYTES = 1024 * 1024 + 64 * 1024  # a Kafka record (1 MiB) and its attributes
_HTTP_TITLES = {404: "Not found", 405: "Method not allowed"}


class Host:
    """One function behind HTTP. `app` is its WSGI app."""

    def __init__(self, function: Function, module: ModuleType) -> None:
        self.function = function
        self.limit = settings.integer("MAX_BODY_BYTES", 256 * 1024, least=1024, most=16 * 1024 * 1024)
        if function.kind == "event":
            self.limit = max(self.limit, MAX_EVENT_BYTES)
        self.draining: Callable[[], bool] = lambda: False
        self._main = module.main
        self.app: Flask = parliament_server.create(SimpleNamespace(main=self.handle))
        self.app.logger.disabled = True  # parliament warns of every POST that is no CloudEvent
        self._add_routes()

    def _add_routes(self) -> None:
        app, function = self.app, self.function
        app.url_map.strict_slashes = False
        if function.kind != "event":
            # No CloudEvent is expected: spare every request the attempt to read one.
            app.view_functions["handle_post"] = self._handle_plain
            app.view_functions["handle_get"] = self._handle_plain
        else:
            sender = events_auth.event_sender()
            for view in ("handle_post", "handle_get"):
                app.view_functions[view] = self._from_broker(sender, app.view_functions[view])
        for rule in function.paths:
            methods = ["GET"] if function.kind == "read" else ["POST"]
            app.add_url_rule(rule, rule, self._handle_plain, methods=methods)
        for rule in function.pages:
            app.add_url_rule(rule, rule, self._handle_plain, methods=["GET"])
        app.add_url_rule("/health", "health", self._readiness)
        app.view_functions["readiness"] = self._readiness
        app.add_url_rule("/metrics", "metrics", _metrics)
        app.register_error_handler(HTTPException, _http_problem)

    def _from_broker(self, sender: events_auth.EventSender, view: Callable[[], Any]) -> Callable[[], Any]:
        """The view for deliveries of our broker; what others send is refused before anything of it is read."""

        def guarded() -> Any:
            started = time.perf_counter()
            try:
                sender.verify(request)
            except ServiceError as error:
                g.detail = error.detail
                self._record(error.status, time.perf_counter() - started)
                return from_error(error)
            return view()

        return guarded

    def _handle_plain(self, **_parts: str) -> Any:
        return self.handle(Context(request))

    def handle(self, context: Context) -> Any:
        """Run the function's `main` on one request or event: ids for the logs, time, and errors turned into answers."""
        started = time.perf_counter()
        event = context.cloud_event
        ids: dict[str, str | None] = {}
        if event is not None:
            trace = event.get("traceparent") or ""
            ids = {
                "request_id": event.get("requestid") or event.get("subject"),
                "session_id": event.get("sessionid"),
                "event_id": event["id"],
                "event_type": event["type"],
                "trace_id": trace[3:35] or None,
            }
        with logs.ids(**ids):
            try:
                if (request.content_length or 0) > self.limit:
                    raise TooLarge(f"The body is larger than {self.limit} bytes.")
                answer = self._main(context)
                faults.point("reply")
                if isinstance(answer, CloudEvent):
                    # The broker stores it, or brings the event again.
                    metrics.PUBLISHED.labels(answer["type"], "success").inc()
                    headers, body = to_http(answer)
                    answer = Response(body, 200, headers)
                status = _status_of(answer)
            except ServiceError as error:
                answer, status = from_error(error), error.status
                g.detail = error.detail
            except HTTPException as error:
                answer, status = _http_problem(error), error.code or 500
            except Exception:
                log.exception("the function failed")
                answer, status = _internal_error(), 500
            self._record(status, time.perf_counter() - started)
        return answer

    def _record(self, status: int, seconds: float) -> None:
        metrics.HANDLED.labels(self.function.name, str(status)).observe(seconds)
        level = logging.INFO if status < 400 else logging.ERROR if status == 500 else logging.WARNING
        if log.isEnabledFor(level):
            detail = g.get("detail")
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


def _internal_error() -> Response:
    return problem_response(problem_document(500, "Internal error", "The function failed; the same call may work later."))


def _http_problem(error: HTTPException) -> Response:
    """What Flask itself refuses (unknown path, wrong method) as a problem; its headers (Allow) are kept."""
    code = error.code or 500
    if code < 400 and error.response is not None:  # a redirect is an answer, not an error
        return Response(status=code, headers=error.get_response().headers)
    details = {404: "There is nothing at this path.", 405: "This path does not take that method."}
    document = problem_document(
        code, _HTTP_TITLES.get(code, error.name), details.get(code, "The HTTP request cannot be read.")
    )
    response = problem_response(document)
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response


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
        address = settings.text("HOST", "0.0.0.0")
        port = settings.integer("PORT", 8080, least=1, most=65535)
        threads = settings.integer("THREADS", 16, least=1, most=1000)
        drain = settings.number("DRAIN_SECONDS", 300, least=0, most=3600)
        host = Host(function, module)
        server = Server(host.app, host=address, port=port, threads=threads, body_limit=host.limit, drain_seconds=drain)
    except SettingError as error:
        sys.stderr.write(f"{directory}: {error}\n")
        return 78
    except OSError as error:
        sys.stderr.write(f"{directory}: PORT cannot be listened on: {error.strerror}\n")
        return 78
    host.draining = lambda: server.draining
    parts = (*function.needs, *function.parts)
    for part in parts:
        part.start()
    server.run(
        on_listening=lambda: log.info("listening", extra={"port": port, "threads": threads}),
        on_stopping=lambda: _drain(parts),
    )
    for part in reversed(parts):
        part.close()
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
