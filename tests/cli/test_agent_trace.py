"""`agent trace`: for its owner from the server, for operators from the database; as text, as JSON, as a page in one file."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from infra.cli.waterfall import from_events, from_steps, scale
from tests.cli.support import Person, Terminal
from tests.parts.llama import DemoModel
from tests.parts.net import free_port
from tests.platform.support import Platform

ATTACK = '<script>alert("script")</script><img src=x onerror=alert("image")>'
PARTS = ("host", "port", "dbname", "user", "password")


@pytest.fixture
def database(platform: Platform) -> dict[str, str]:
    """POSTGRES_* of the platform's database, as an operator has them."""
    found = conninfo_to_dict(platform.description()["database"]["url"])
    return {f"POSTGRES_{part.upper().removesuffix('NAME')}": str(found[part]) for part in PARTS}


@pytest.fixture
def rows(platform: Platform) -> Callable[..., list[tuple[Any, ...]]]:
    def run(statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(platform.description()["database"]["url"], autocommit=True) as connection:
            return connection.execute(statement, values).fetchall()

    return run


def asked(person: Person, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = person.run("ask", "--json", *arguments).json()
    return found


class TestAPage:
    def test_it_is_one_file_that_needs_no_other_and_runs_nothing(self, ann: Person, tmp_path: Path) -> None:
        request_id = asked(ann, ATTACK)["request_id"]
        ran = ann.run("trace", request_id, "--html", str(tmp_path / "way.html"))
        assert (ran.code, ran.out, ran.err) == (0, "", "")
        page = (tmp_path / "way.html").read_text(encoding="utf-8")
        assert f'<h1 class="asked">{html.escape(ATTACK).replace("&quot;", "&#34;")}</h1>' in page
        assert "You wrote: “&lt;script&gt;" in page
        assert not re.search(r"<(script|img|link)|<[^>]+ (src|href|on\w+|style)=|url\(", page)
        [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        for told in (
            request_id,
            "session-upsert",
            "until the answer was committed",
            "completed",
            "by this request's id",
        ):
            assert told in page

    def test_a_dash_is_standard_output(self, ann: Person) -> None:
        asked(ann, "I want to refresh my laptop")
        ran = ann.run("trace", "--html", "-")
        assert ran.out.startswith("<!doctype html>")
        assert ran.out.rstrip().endswith("</html>")

    def test_a_file_that_cannot_be_written_is_exit_code_2(self, ann: Person, tmp_path: Path) -> None:
        asked(ann, "I want to refresh my laptop")
        ran = ann.run("trace", "--html", str(tmp_path / "none" / "way.html"))
        assert (ran.code, ran.out) == (2, "")
        assert "cannot be written" in ran.err

    def test_somebody_elses_is_refused_and_nothing_is_written(self, ann: Person, tmp_path: Path) -> None:
        request_id = asked(ann, "I want to refresh my laptop")["request_id"]
        ran = ann.run("trace", request_id, "--html", str(tmp_path / "way.html"), "--user", "mallory")
        assert ran.code == 3
        assert not (tmp_path / "way.html").exists()

    def test_a_failed_request_says_why(self, ann: Person, demo_model: DemoModel) -> None:
        demo_model.control(fail_next=100, status=400)
        ann.run("ask", "I want to refresh my laptop")
        page = ann.run("trace", "--html", "-").out
        assert "<b>agent_request_refused</b> The assistant could not work with this request." in page


class TestFromTheDatabase:
    def test_an_operator_sees_everybodys_with_question_and_session(self, ann: Person, database: dict[str, str]) -> None:
        request = asked(ann, "I want to refresh my laptop")
        found = ann.run("trace", "--database", "--json", request["request_id"], "--user", "operator", **database).json()
        mine = ann.run("trace", "--json", request["request_id"]).json()
        assert {name: found[name] for name in mine} == mine
        assert (found["question"], found["answer"]) == ("I want to refresh my laptop", request["response"]["content"])
        assert found["user_id"].startswith("ann-")
        assert (found["session"]["status"], found["session"]["unfinished"]) == ("active", 0)
        text = ann.run("trace", "--database", request["request_id"], **database).out
        assert re.search(r"^user    ann-", text, re.MULTILINE)
        assert "\nnow     its session is active, 0 unfinished, no lease\n" in text
        assert re.search(r"^ +\+\d+ ms  agent-invoke +answered", text, re.MULTILINE)

    def test_dead_letters_are_there_whole_also_of_a_request_that_was_never_recorded(
        self, ann: Person, database: dict[str, str], rows: Callable[..., list[tuple[Any, ...]]], tmp_path: Path
    ) -> None:
        request_id = f"never-{tmp_path.name}"
        [(number,)] = rows(
            "INSERT INTO dead_letters (event_source, event_id, event_type, request_id, destination, error_code, error_data,"
            " event) VALUES ('s', %s, 'request.created', %s, 'http://internal.address/', '500', 'bm90aGluZw==', %s)"
            " RETURNING dead_letter_id",
            request_id, request_id, Jsonb({"data": ATTACK}),
        )  # fmt: skip
        found = ann.run("trace", "--database", "--json", request_id, **database).json()
        assert (found["status"], found["steps"]) == ("unrecorded", [])
        [letter] = found["dead_letters"]
        assert (letter["id"], letter["why"], letter["event"]) == (number, "nothing", {"data": ATTACK})
        assert (
            f"dead letter {number}: request.created, code 500" in ann.run("trace", "--database", request_id, **database).out
        )
        page = ann.run("trace", "--database", "--html", "-", request_id, **database).out
        assert "http://internal.address/" in page
        assert "&lt;script&gt;" in page
        assert "<script" not in page

    def test_what_is_not_there_is_exit_code_5(self, ann: Person, database: dict[str, str]) -> None:
        for request_id in ("nope", "no\tpe"):
            ran = ann.run("trace", "--database", "--json", request_id, **database)
            assert (ran.code, ran.json()["error"]["code"]) == (5, "unknown")

    def test_a_database_that_does_not_answer_is_exit_code_4(self, ann: Person, database: dict[str, str]) -> None:
        ran = ann.run("trace", "--database", "--json", "x", **{**database, "POSTGRES_PORT": str(free_port())})
        assert (ran.code, ran.json()["error"]["code"]) == (4, "unreachable")
        assert database["POSTGRES_PASSWORD"] not in ran.out + ran.err

    def test_a_setting_that_cannot_be_used_is_exit_code_2(self, ann: Person, database: dict[str, str]) -> None:
        ran = ann.run("trace", "--database", "--json", "x", **{**database, "POSTGRES_PORT": "many"})
        assert (ran.code, ran.json()["error"]["code"]) == (2, "usage")

    @pytest.mark.parametrize("arguments", [("--database",), ("x", "--html", "-")])
    def test_what_does_not_go_together_is_exit_code_2(self, ann: Person, arguments: tuple[str, ...]) -> None:
        ran = ann.run("trace", *arguments, "--json")
        assert (ran.code, ran.json()["error"]["code"]) == (2, "usage")


class TestText:
    def test_on_a_terminal_each_step_has_a_bar(self, terminal: Callable[..., Terminal], ann: Person) -> None:
        asked(ann, "I want to refresh my laptop")
        shown = terminal("trace")
        assert shown.wait() == 0
        lines = [line for line in shown.text().splitlines() if "█" in line]
        assert [re.split(r"[█·]\s+", line)[1].split()[1] for line in lines][:2] == ["accepted", "recorded"]
        bars = [re.findall(r"[█·]+", line)[0] for line in lines]
        assert {len(bar) for bar in bars} == {24}
        assert bars[0].startswith("█")
        assert bars[-1].endswith("█")
        assert "a stretch between two of them holds the broker's way" in " ".join(shown.text().split())

    def test_through_a_pipe_there_is_none(self, ann: Person) -> None:
        asked(ann, "I want to refresh my laptop")
        ran = ann.run("trace")
        assert "█" not in ran.out
        assert ran.err == ""


class TestRows:
    """The rows on one scale of time."""

    def test_every_part_lies_within_the_drawing_and_is_seen(self) -> None:
        rows = from_steps([step("accepted", 0), step("recorded", 3), step("answered", 600_000), step("delivered", 600_000)])
        whole = scale(rows)
        for row in rows:
            for part in row.parts:
                left, width = (float(text.rstrip("%")) for text in (whole.left(part), whole.width(part)))
                assert left >= 0
                assert width > 0.5
                assert left + width <= 100.001

    def test_a_clock_that_is_behind_makes_no_negative_stretch(self) -> None:
        rows = from_steps([step("accepted", 0), step("recorded", -5), step("answered", 20)])
        assert [row.took for row in rows] == [None, 0, 20]

    def test_a_step_that_is_still_to_come_has_no_bar(self) -> None:
        [row] = from_steps([step("started", None)])
        assert (row.what, row.parts, row.kind) == ("started: not yet", (), "open")

    def test_a_delivery_shows_each_of_its_tries(self) -> None:
        event = {
            "type": "com.self-service-agent.request.created",
            "received_at": "2026-01-01T00:00:00.010Z",
            "deliveries": [{
                "trigger": "t", "function": "session-upsert", "state": "delivered", "attempts": 2, "status": 200,
                "first_attempt_at": "2026-01-01T00:00:00.020Z", "finished_at": "2026-01-01T00:00:01.000Z",
                "tries": [
                    {"at": "2026-01-01T00:00:00.120Z", "duration_ms": 100, "outcome": "retried"},
                    {"at": "2026-01-01T00:00:01.000Z", "duration_ms": 50, "outcome": "delivered"},
                ],
            }],
        }  # fmt: skip
        [row] = from_events([event], "2026-01-01T00:00:00Z")
        assert (row.title, row.what, row.at, row.took, row.outcome) == (
            "session-upsert", "request.created", 20, 980, "200, 2 tries",
        )  # fmt: skip
        assert [(part.start, part.end, part.kind) for part in row.parts] == [
            (20, 1000, "wait"), (20, 120, "retry"), (950, 1000, "ok"),
        ]  # fmt: skip


def step(name: str, after: int | None) -> dict[str, Any]:
    return {"function": "f", "step": name, "after_ms": after, "detail": {}}
