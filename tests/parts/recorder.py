"""An HTTP endpoint that keeps what it is sent and answers as told: a broker, a webhook, as seen from a function."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.parts.functions import Event


class Recorder:
    """Answers every POST with `status` (202) and keeps it in `events`, oldest first."""

    def __init__(self, port: int = 0) -> None:
        self.status = 202
        self.answer_headers: dict[str, str] = {}
        self.answer_body = b""
        self.events: list[Event] = []
        self.paths: list[str] = []
        self._arrived = threading.Condition()
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                with recorder._arrived:
                    recorder.events.append(Event(dict(self.headers.items()), body))
                    recorder.paths.append(self.path)
                    recorder._arrived.notify_all()
                self.send_response(recorder.status)
                for name, value in recorder.answer_headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(recorder.answer_body)))
                self.end_headers()
                self.wfile.write(recorder.answer_body)

            def do_OPTIONS(self) -> None:
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Tests read `events` instead."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait_for(self, count: int, seconds: float = 10) -> list[Event]:
        """Wait until `count` requests have come; all that came."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.events) >= count, seconds), f"{len(self.events)} of {count} came"
            return list(self.events)

    def clear(self) -> None:
        """Forget what came, and answer 202 again."""
        with self._arrived:
            self.events.clear()
            self.paths.clear()
        self.status, self.answer_headers, self.answer_body = 202, {}, b""

    def close(self) -> None:
        """Stop answering; the port is free afterwards."""
        self._server.shutdown()
        self._server.server_close()
