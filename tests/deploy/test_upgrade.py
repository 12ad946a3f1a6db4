"""An upgrade and a rollback, function by function, while people ask: the code of the release before on the newest schema.

The release before is the archive in `releases` (`make release-archive`): its code runs as processes of its own, beside
this tree's. Both run with the packages of this environment, so a changed requirement is not what is tested here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from infra.deploy import release
from infra.deploy.table import load
from tests.broker.harness import Broker
from tests.deploy.rollout import Rollout
from tests.deploy.talk import Conversation, Mentions, Talk
from tests.parts.functions import ROOT
from tests.parts.llama import DemoModel
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import settings_of_ingest
from tests.parts.slack import CHANNEL
from tests.platform.support import until
from tests.slack.fake import TOKEN, FakeSlack

OLD, NEW = "old", "new"
WEBHOOK_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"  # pragma: allowlist secret
# In the order of an installation that has bad luck: those that read events before those that write them, and the reverse.
UPGRADE = [
    "response-dispatch",
    "ingest-web",
    "agent-invoke",
    "request-status",
    "ingest-tool",
    "ingest-slack",
    "session-upsert",
]
QUIET = ["dead-letter", "session-sweep"]  # nobody asks them while all is well
VERSIONS = "infra/migrations/versions"
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PARAMETER = re.compile(r"%\((\w+)\)s")


@pytest.fixture(scope="module")
def old_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the release before, and nothing of this one is imported from it."""
    tree = release.unpack(release.previous(ROOT), tmp_path_factory.mktemp("release"))
    program = "import common.host, infra.migrations as m; print(common.host.__file__, m.__file__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tree, capture_output=True, text=True, check=True)
    assert all(Path(path).is_relative_to(tree) for path in done.stdout.split()), done.stdout
    return tree


@pytest.fixture(scope="module")
def database(old_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A database as the release before has made it."""
    server = Postgres(tmp_path_factory.mktemp("postgres"), old_tree)
    yield server
    server.close()


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    workspace = FakeSlack()
    yield workspace
    workspace.close()


@pytest.mark.timeout(600)  # 27 starts of functions, one after the other, beside what the functions do
def test_every_request_is_answered_once_and_in_order_while_the_code_is_upgraded_and_rolled_back(
    old_tree: Path,
    database: Postgres,
    llama_stack: str,
    demo_model: DemoModel,
    recorder: Recorder,
    slack: FakeSlack,
    tmp_path: Path,
) -> None:
    conversations: list[Conversation] = []
    talks: list[Talk] = []

    def watch() -> None:
        for talk in talks:
            talk.check()

    rollout = Rollout([function.name for function in load()], {OLD: old_tree, NEW: ROOT}, watch)
    addresses = {name: service.url for name, service in rollout.services.items()}
    topology = (ROOT / "infra/topology.yaml").read_text()
    try:
        with Broker(tmp_path, topology, addresses) as broker:
            settings = {
                **database.environment(),
                **settings_of_ingest(broker.url),
                "LLAMA_STACK_URL": llama_stack,
                "DRAIN_SECONDS": "30",
                "WEBHOOK_SECRETS": json.dumps({"snow": WEBHOOK_SECRET}),
                "WEBHOOK_URLS_ALLOWED": recorder.url,
                "SLACK_BOT_TOKEN": TOKEN,
                "SLACK_API_URL": slack.url,
            }
            database.query(
                "INSERT INTO integration_configs (integration_type, integration_key, delivery)"
                " VALUES ('tool', 'snow-integration', %s)",
                json.dumps({"webhook_url": recorder.url, "secret_ref": "snow"}),  # pragma: allowlist secret
            )
            rollout.start([*UPGRADE, *QUIET], OLD, settings)
            demo_model.control(delay_ms=200)  # so that people do not keep the machine from starting processes

            for number, integration in enumerate(("web", "tool", "web", "tool")):
                to, status = addresses[f"ingest-{integration}"], addresses["request-status"]
                conversations.append(Conversation(f"{integration} {number}", integration, to, status))
            mentions = Mentions("slack", slack, addresses["ingest-slack"])
            talks += [*conversations, mentions]
            for talk in talks:
                talk.start()
            database.migrate()  # the Helm hook: before any code
            for name in UPGRADE:
                rollout.switch(name, NEW, settings, side_by_side=3)
            for name in QUIET:
                rollout.switch(name, NEW, settings, side_by_side=0)
            tick(broker, rollout, NEW)
            for name in reversed(UPGRADE):  # helm rollback: the schema stays
                rollout.switch(name, OLD, settings, side_by_side=3)
            for name in QUIET:
                rollout.switch(name, OLD, settings, side_by_side=0)
            tick(broker, rollout, OLD)
            for talk in talks:
                talk.stop()
            asked = [request_id for one in conversations for request_id in one.sent]
            tools = [request_id for one in conversations if one.integration == "tool" for request_id in one.sent]
            recorder.wait_for(len(tools), 60)
    finally:
        rollout.close()

    assert database.query("SELECT DISTINCT status FROM request_logs") == [("completed",)]
    rows = database.query("SELECT request_id FROM request_logs WHERE integration_type <> 'slack'")
    assert sorted(row[0] for row in rows) == sorted(asked)
    assert database.query("SELECT count(*) FROM request_logs WHERE integration_type = 'slack'") == [(len(mentions.threads),)]
    said = Counter(text for talk in talks for text in talk.texts)
    assert Counter(one["last_user_message"] for one in demo_model.calls()) == said  # the model was asked once each
    assert Counter(one.data()["data"]["request_id"] for one in recorder.events) == Counter(tools)
    assert [len(slack.ours(CHANNEL, thread)) for thread in mentions.threads] == [1] * len(mentions.threads)
    assert slack.faults == []
    assert database.query("SELECT * FROM dead_letters") == []
    for conversation in conversations:
        in_order(database, conversation)


def tick(broker: Broker, rollout: Rollout, revision: str) -> None:
    """Have session-sweep swept once by the code that serves now."""
    broker.post("dev.knative.sources.ping", f"tick-{revision}")
    served = rollout.services["session-sweep"].served
    until(lambda: served[revision] > 0, f"session-sweep ({revision}) has had its tick")


def in_order(database: Postgres, talk: Conversation) -> None:
    """One session, its turns one after the other, as they were said."""
    turns = database.query(
        "SELECT request_content, started_at, completed_at, session_id FROM request_logs"
        " WHERE request_id = ANY(%s) ORDER BY started_at",
        talk.sent,
    )
    assert [turn[0] for turn in turns] == talk.texts
    assert all(before[2] <= after[1] for before, after in pairwise(turns))
    assert len({turn[3] for turn in turns}) == 1


def test_a_migration_that_was_released_is_as_it_was(old_tree: Path) -> None:
    # A database that has run it will not run it again (docs/adr/0007): what changes goes into the next file.
    released = sorted((old_tree / VERSIONS).glob("*.sql"))
    assert len(released) >= 5
    assert [file.name for file in released if (ROOT / VERSIONS / file.name).read_bytes() != file.read_bytes()] == []


def statements(text: str) -> dict[str, str]:
    """The statements of a text like common/sql/queries.sql, with PostgreSQL's own parameters ($1 …)."""
    parts = _NAME.split(text)
    found = {}
    for name, statement in zip(parts[1::2], parts[2::2], strict=True):
        order: list[str] = []
        for parameter in _PARAMETER.findall(statement):
            if parameter not in order:
                order.append(parameter)
        numbered = _PARAMETER.sub(lambda match, order=order: f"${order.index(match[1]) + 1}", statement)
        found[name] = numbered.replace("%%", "%")
    return found


def test_every_statement_of_the_release_before_is_one_on_the_newest_schema(old_tree: Path, postgres: Postgres) -> None:
    # Those too that no request of the test above needs.
    known = statements((old_tree / "common/sql/queries.sql").read_text())
    assert len(known) > 5
    with postgres.connect() as connection:
        for name, text in known.items():
            # names of functions, their arguments
            connection.execute(f"PREPARE {name} AS {text.strip().rstrip(';')}".encode())


def test_the_text_of_a_statement_that_the_schema_no_longer_knows_is_caught(postgres: Postgres) -> None:
    with postgres.connect() as connection, pytest.raises(psycopg.errors.UndefinedFunction, match="no_such_step"):
        connection.execute("PREPARE gone AS SELECT no_such_step($1)")
