"""An identity provider for the tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
