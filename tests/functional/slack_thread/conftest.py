"""response-dispatch in its own process, and a Slack that checks every call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.slack_thread.support import settings
from tests.parts.functions import Function
from tests.parts.postgres import Postgres
from tests.parts.slack import CHANNEL, PERSON, TS
from tests.slack.fake import FakeSlack


@pytest.fixture(scope="module")
def workspace() -> Iterator[FakeSlack]:
    fake = FakeSlack()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def dispatch(postgres_server: Postgres, workspace: FakeSlack) -> Iterator[Function]:
    function = Function("response-dispatch", settings(postgres_server, workspace))
    yield function
    function.close()


@pytest.fixture
def slack(workspace: FakeSlack, postgres: Postgres) -> Iterator[FakeSlack]:
    """The workspace with the question in it; afterwards every call was one that a careful app makes."""
    workspace.clear()
    workspace.know(CHANNEL, TS, PERSON)
    yield workspace
    assert workspace.faults == []
