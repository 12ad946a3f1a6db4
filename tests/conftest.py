"""The real parts that several tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.parts import real_parts
from tests.parts.functions import Function
from tests.parts.llama import DemoModel, LlamaStack
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One PostgreSQL for the whole run."""
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.close()


@pytest.fixture
def postgres(postgres_server: Postgres) -> Postgres:
    """The database, empty."""
    postgres_server.empty()
    return postgres_server


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    """Where a function's events or webhooks go."""
    endpoint = Recorder()
    yield endpoint
    endpoint.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Function]]:
    """Start functions that end with the test: `serve(name, environment)`."""
    running: list[Function] = []

    def start(name: str, environment: dict[str, str], *, ready: bool = True) -> Function:
        function = Function(name, environment, ready=ready)
        running.append(function)
        return function

    yield start
    for function in running:
        function.close()


@pytest.fixture(scope="session")
def demo_model_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoModel]:
    """One scripted model for the whole run."""
    model = DemoModel(tmp_path_factory.mktemp("model"))
    yield model
    model.close()


@pytest.fixture(scope="session")
def llama_stack(demo_model_server: DemoModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one real Llama Stack server for the whole run."""
    stack = LlamaStack(tmp_path_factory.mktemp("llama-stack"), demo_model_server)
    yield stack.url
    stack.close()


@pytest.fixture
def demo_model(demo_model_server: DemoModel) -> Iterator[DemoModel]:
    """The demo model, with no calls remembered and nothing set."""
    demo_model_server.reset()
    yield demo_model_server
    demo_model_server.reset()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have left as their `table`, whichever process they ran in, and which real parts were used."""
    reports = (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed"))
    for report in reports:
        for name, table in report.user_properties:
            if name == "table":
                terminalreporter.section(report.nodeid)
                terminalreporter.write_line(table)
    used = {directory for report in reports for directory in report.nodeid.split("/")[1:2]}
    terminalreporter.section("real parts")
    for line in real_parts.lines(used):
        terminalreporter.write_line(line)
