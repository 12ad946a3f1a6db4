"""Each function alone, beside a bare parliament function and beside its own code under parliament without our host."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks import calls, post
from benchmarks.imports import FUNCTIONS
from benchmarks.processes import ROOT, cpu_seconds, free_port, process, python
from benchmarks.results import Line
from tests.parts.postgres import Postgres

ROUNDS = 3
_COUNTS = {"session-sweep": 40, "agent-invoke": 250, "dead-letter": 300}
_COUNT = 700
_NO_BODY = {"response-dispatch", "dead-letter", "session-sweep"}  # 204: there is no id in the answer, the rows have it
_THREADS = {"response-dispatch": "64"}  # it sends to one host on a quarter of them: all 16 connections' worth
_NOT_AT_ROOT = {"request-status"}  # its paths are the host's
_INGEST_BUDGET = 60.0
_BARE = "import parliament\n\ndef main(context):\n    return '', 202\n"
# The function's own code and what lives as long as its process, without the host.
_WITHOUT_HOST = """
import importlib.util, sys
sys.path[:0] = [{root!r}, {directory!r}]
spec = importlib.util.spec_from_file_location("the_function", {directory!r} + "/func.py")
the_function = importlib.util.module_from_spec(spec)
spec.loader.exec_module(the_function)
for part in (*the_function.function.needs, *the_function.function.parts):
    part.start()
main = the_function.main
"""


def measure(rounds: int = ROUNDS, *names: str) -> list[Line]:
    """Requests a second from 16 connections, in turns; a function that answers with an id is asked for the right one."""
    sink, stack = free_port(), free_port()
    at_sink, at_stack = f"http://127.0.0.1:{sink}/", f"http://127.0.0.1:{stack}"
    with (
        tempfile.TemporaryDirectory(prefix="bench-single-") as folder,
        process(python("-m", "benchmarks.sink", str(sink)), at_sink),
        process(python("-m", "benchmarks.instant_stack", str(stack)), f"{at_stack}/v1/health"),
        closing(Postgres(Path(folder) / "db")) as postgres,
        _bare(Path(folder) / "bare", _BARE, {}) as bare,
    ):
        environment = {**postgres.environment(), **_settings(at_sink, at_stack)}
        postgres.query(
            "INSERT INTO integration_configs (integration_type, integration_key, delivery) VALUES ('tool', %s, %s)",
            calls.TOOL,
            json.dumps({"webhook_url": f"{at_sink}hook", "secret_ref": "bench"}),  # pragma: allowlist secret
        )
        return [line for name in names or FUNCTIONS for line in _function(name, postgres, environment, bare, rounds)]


@dataclass(frozen=True)
class _Server:
    """Something that answers at `url`; `pid` is its process."""

    url: str
    pid: int

    def run(self, made: list[post.Call]) -> tuple[float, float]:
        """Requests a second, and milliseconds of the process's CPU for one."""
        used = cpu_seconds(self.pid)
        rate = post.rate(self.url, made)
        return rate, (cpu_seconds(self.pid) - used) * 1000 / len(made)


def _function(name: str, postgres: Postgres, environment: dict[str, str], bare: _Server, rounds: int) -> list[Line]:
    count = _COUNTS.get(name, _COUNT)
    with ExitStack() as stack:
        environment = {**environment, "THREADS": _THREADS.get(name, "16")}
        ours = stack.enter_context(_ours(name, environment))
        servers = [(bare, "ingest-web"), (ours, name)]
        if name not in _NOT_AT_ROOT:
            text = _WITHOUT_HOST.format(root=str(ROOT), directory=str(ROOT / "functions" / name))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-code-")))
            servers.append((stack.enter_context(_bare(folder, text, environment)), name))
        for server, sent in servers:  # warm
            server.run(_checked(server, bare, sent, calls.of(sent, postgres, 100)))
        runs = [
            [server.run(_checked(server, bare, sent, calls.of(sent, postgres, count))) for server, sent in servers]
            for _ in range(rounds)
        ]
    lines = [
        Line(f"{name}: requests a second", median(run[1][0] for run in runs), "1/s"),
        Line(f"{name}: of a bare parliament function", _share(runs, 0, 0), "%", *_budget(name)),
        Line(f"{name}: CPU a request", median(run[1][1] for run in runs), "ms"),
        Line(f"{name}: CPU of that of a bare parliament function", median(run[1][1] / run[0][1] for run in runs), "×"),
    ]
    if len(servers) > 2:
        lines.append(Line(f"{name}: requests a second, of its code without our host", _share(runs, 2, 0), "%"))
        of_code = median(run[1][1] / run[2][1] for run in runs)
        lines.append(Line(f"{name}: CPU of that of its code without our host", of_code, "×"))
    return lines


def _share(runs: list[list[tuple[float, float]]], other: int, figure: int) -> float:
    """The median, over the rounds, of ours in percent of another one's."""
    return median(100 * run[1][figure] / run[other][figure] for run in runs)


def _budget(name: str) -> tuple[float | None, bool]:
    return (_INGEST_BUDGET if name.startswith("ingest-") else None, False)


def _checked(server: _Server, bare: _Server, name: str, made: list[post.Call]) -> list[post.Call]:
    """The calls with what this server answers to them."""
    if server is bare:
        return [replace(call, status=202, id="") for call in made]
    return [replace(call, id="") for call in made] if name in _NO_BODY else made


@contextmanager
def _ours(name: str, environment: dict[str, str]) -> Iterator[_Server]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = python("-m", "common.host", f"functions/{name}")
    with process(command, f"{url}/health/readiness", {**environment, "PORT": str(port)}) as running:
        yield _Server(url, running.pid)


@contextmanager
def _bare(folder: Path, code: str, environment: dict[str, str]) -> Iterator[_Server]:
    """`python -m parliament` with this func.py."""
    folder.mkdir(exist_ok=True)
    (folder / "func.py").write_text(code, encoding="utf-8")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process(python("-m", "benchmarks.bare", str(port), str(folder)), f"{url}/health/liveness", environment) as running:
        yield _Server(url, running.pid)


def _settings(at_sink: str, at_stack: str) -> dict[str, str]:
    return {
        "BROKER_URL": at_sink,
        "LLAMA_STACK_URL": at_stack,
        "AUTH_MODE": "none",
        "LOG_LEVEL": "INFO",
        "SLACK_SIGNING_SECRET": calls.SLACK_SECRET,
        "TOOL_KEYS": calls.TOOL_KEYS,
        "WEBHOOK_SECRETS": json.dumps({"bench": "whsec_YSBzZWNyZXQgb2YgMjQgYnl0ZXMgb2sh"}),  # pragma: allowlist secret
        "WEBHOOK_URLS_ALLOWED": at_sink,
    }
