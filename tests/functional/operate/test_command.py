"""`python -m infra.operate` on real PostgreSQL: what it lists, shows and says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.functional.operate.support import Operating, of_tool
from tests.parts.events import event
from tests.parts.functions import ROOT
from tests.parts.net import free_port


def test_the_list_says_what_failed_where_and_what_a_replay_would_do(operating: Operating) -> None:
    first = operating.bury(of_tool("r1"))
    operating.bury(event("com.example.other", "e1", {}), "500")
    lines = operating.ok("dlq", "list").splitlines()
    assert lines[0].startswith("ID")
    assert len(lines) == 3
    assert "request.created" in lines[1]
    assert "r1" in lines[1]
    [row] = operating.json("dlq", "list", "--type", "request.created")
    assert (row["id"], row["code"], row["why"], row["destination"]) == (first, "422", "why", "http://agent-invoke.local/")
    assert operating.json("dlq", "list", "--request", "r1")[0]["id"] == first
    assert len(operating.json("dlq", "list", "--since", "10m")) == 2
    assert operating.json("dlq", "list", "--since", "2099-01-01") == []
    assert len(operating.json("dlq", "list", "--limit", "1")) == 1


def test_what_matches_is_replayed_once(operating: Operating) -> None:
    for number in range(3):
        operating.bury(of_tool(f"r{number}"))
    operating.bury(event("com.example.other", "e1", {}))
    assert len(operating.json("dlq", "replay", "--type", "request.created", "--since", "1h")) == 3
    assert [one.attribute("id") for one in operating.broker.events] == ["r0", "r1", "r2"]
    assert operating.json("dlq", "replay", "--type", "request.created", "--since", "1h") == []
    assert len(operating.json("dlq", "list", "--unreplayed")) == 1
    operating.bury(of_tool("r1"))  # and failed again
    assert [row["event_id"] for row in operating.json("dlq", "replay", "--request", "r1")] == ["r1"]


def test_show_shows_it_whole(operating: Operating) -> None:
    number = operating.bury(of_tool("r1"))
    said = operating.ok("dlq", "show", str(number))
    assert "http://agent-invoke.local/" in said
    assert "A printer?" in said


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["dlq", "list"], 0, "no dead letters\n", ""),
        (["dlq", "show", "4711"], 1, "", "operate: there is no dead letter 4711\n"),
    ],
)
def test_it_is_a_command(operating: Operating, arguments: list[str], code: int, out: str, err: str) -> None:
    command = [sys.executable, "-m", "infra.operate", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=operating.settings(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


def test_an_empty_list_says_so(operating: Operating) -> None:
    assert operating.ok("dlq", "list") == "no dead letters\n"
    assert operating.ok("dlq", "replay", "--since", "1h") == "no dead letters\n"


def test_what_cannot_be_done_is_one_line(operating: Operating) -> None:
    assert operating.refused("dlq", "show", "4711") == "operate: there is no dead letter 4711"
    assert operating.refused("dlq", "replay", "4711", "4712") == "operate: there is no dead letter 4711, 4712"
    assert "say which" in operating.refused("dlq", "replay")
    nowhere = str(free_port())
    assert "the database does not answer" in operating.refused("dlq", "list", POSTGRES_PORT=nowhere)
    assert "POSTGRES_PORT" in operating.refused("dlq", "list", POSTGRES_PORT="x")
    number = operating.bury(of_tool("r1"))
    assert "BROKER_URL" in operating.refused("dlq", "replay", str(number), BROKER_URL="")
    assert "the broker does not answer" in operating.refused(
        "dlq", "replay", str(number), "--json", BROKER_URL=f"http://127.0.0.1:{nowhere}/"
    )
    assert operating.postgres.query("SELECT replayed_at FROM dead_letters") == [(None,)]
    nobody = f"http://127.0.0.1:{nowhere}"
    assert operating.refused("--platform", nobody, "dlq", "list") == f"operate: no platform answers at {nobody}"
    assert "no webhook is configured for nobody" in operating.refused("webhooks", "enable", "nobody")
