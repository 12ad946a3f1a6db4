"""An identity provider, and functions that believe everybody, for the tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.parts.functions import Function
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, settings_of_ingest
from tests.security.issuer import KID, Issuer


@pytest.fixture(scope="module")
def issuer_server() -> Iterator[Issuer]:
    server = Issuer()
    yield server
    server.close()


@pytest.fixture
def issuer(issuer_server: Issuer) -> Issuer:
    """The identity provider, working, with its own key published."""
    issuer_server.broken = None
    issuer_server.published = {KID: issuer_server.key}
    return issuer_server


@pytest.fixture(scope="session")
def open_broker() -> Iterator[Recorder]:
    """Where `open_functions` publish."""
    endpoint = Recorder()
    yield endpoint
    endpoint.close()


@pytest.fixture(scope="session")
def open_functions(open_broker: Recorder, postgres_server: Postgres) -> Iterator[dict[str, Function]]:
    """Functions that verify no person (AUTH_MODE=none), so that a user_id too can be any text, and log every line."""
    settings = {
        **postgres_server.environment(),
        **settings_of_ingest(open_broker.url),
        "AUTH_MODE": "none",
        "LOG_LEVEL": "DEBUG",
    }
    names = (*(f"ingest-{name}" for name in BODIES), "session-upsert", "request-status", "dead-letter", "response-dispatch")
    yield from started(names, settings)


def started(names: tuple[str, ...], settings: dict[str, str]) -> Iterator[dict[str, Function]]:
    """These functions, started and ended together."""
    with ThreadPoolExecutor(len(names)) as pool:
        running = dict(zip(names, pool.map(lambda name: Function(name, settings), names), strict=True))
        yield running
        list(pool.map(lambda function: function.close(), running.values()))
