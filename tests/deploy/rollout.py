"""Functions of two releases behind one address each, as Knative's Services give them while an upgrade runs."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import urllib3

from tests.parts.functions import Function
from tests.platform.support import until

_OF_THE_CONNECTION = frozenset({"connection", "content-length", "date", "host", "keep-alive", "server", "transfer-encoding"})


class Service:
    """One address; each request goes to one of the revisions that serve now, in turn. Without one it is answered 503.

    `served` counts what each revision has answered.
    """

    def __init__(self) -> None:
        self.served: Counter[str] = Counter()
        self._revisions: dict[str, Function] = {}
        self._turns = itertools.count()
        self._lock = threading.Lock()
        self._http = urllib3.PoolManager(maxsize=64, retries=False, timeout=90)
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                service._forward(self)

            def do_GET(self) -> None:
                service._forward(self)

            def log_message(self, format: str, *args: object) -> None:
                """The functions' own logs say it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def revisions(self) -> list[str]:
        """The names of those that serve now, oldest first."""
        return list(self._revisions)

    def add(self, revision: str, function: Function) -> None:
        """Have it serve beside those that are there."""
        with self._lock:
            self._revisions[revision] = function

    def remove(self, revision: str) -> Function:
        """Send it nothing more; what it works on, it answers."""
        with self._lock:
            return self._revisions.pop(revision)

    def close(self) -> None:
        """Stop answering, and end the revisions."""
        self._server.shutdown()
        self._server.server_close()
        for function in self._revisions.values():
            function.close()

    def _forward(self, asked: BaseHTTPRequestHandler) -> None:
        body = asked.rfile.read(int(asked.headers.get("content-length", "0")))
        with self._lock:
            serving = list(self._revisions.items())
        if not serving:
            asked.send_response(503)
            asked.send_header("content-length", "0")
            asked.end_headers()
            return
        revision, function = serving[next(self._turns) % len(serving)]
        answer = self._http.request(
            asked.command, function.url + asked.path, body=body, headers=_passed_on(dict(asked.headers)), redirect=False
        )
        with self._lock:
            self.served[revision] += 1
        asked.send_response(answer.status)
        for name, value in _passed_on(answer.headers).items():
            asked.send_header(name, value)
        asked.send_header("content-length", str(len(answer.data)))
        asked.end_headers()
        asked.wfile.write(answer.data)


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _OF_THE_CONNECTION}


class Rollout:
    """Functions by name, each behind its Service. A revision is the code of a tree: `trees` has their roots by name.

    `watch` is asked while a revision is waited for, and raises what has gone wrong meanwhile.
    """

    def __init__(self, names: list[str], trees: Mapping[str, Path], watch: Callable[[], None]) -> None:
        self.services = {name: Service() for name in names}
        self._trees = trees
        self._watch = watch

    def start(self, names: list[str], revision: str, settings: dict[str, str]) -> None:
        """Start functions with a tree's code; one that is ready serves, beside what served before."""

        def one(name: str) -> None:
            self.services[name].add(revision, Function(name, settings, root=self._trees[revision]))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, names))

    def switch(self, name: str, revision: str, settings: dict[str, str], *, side_by_side: int) -> None:
        """From the revision that serves to another, as Serving does it; meanwhile both answer `side_by_side` requests.

        The old one is told to end while it works, and must finish what it has: exit code 0.
        """
        service = self.services[name]
        (old,) = service.revisions
        self.start([name], revision, settings)
        before = Counter(service.served)

        def both_answer() -> bool:
            self._watch()
            return all(service.served[one] - before[one] >= side_by_side for one in (old, revision))

        until(both_answer, f"{name}: {old} and {revision} both answer", 120)
        gone = service.remove(old)
        code = gone.stop(seconds=40)
        assert code == 0, f"{name} ({old}) ended with {code}: {gone.output()[-2000:]}"
        gone.close()

    def close(self) -> None:
        """End everything."""
        for service in self.services.values():
            service.close()
