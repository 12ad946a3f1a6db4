"""The page at /_platform over HTTP: who gets it, what it is told as it happens, and what no other site may do."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import urllib3
from aiohttp.test_utils import make_mocked_request

from infra.local import guard
from tests.parts.net import call, problem
from tests.platform.conftest import Start
from tests.platform.page import ATTACK, BROWSER, FOREIGN, OWN, Letters, ask, feed, get
from tests.platform.support import Platform, until


@pytest.fixture
def letters(running: Platform) -> Letters:
    running.wait_healthy()
    return Letters(running)


class TestWhoGetsIt:
    @pytest.mark.parametrize(
        "accept", [BROWSER, "text/html", "application/json;q=0.5, text/html", "TEXT/HTML;q=0.9, */*;q=0.1"]
    )
    def test_who_prefers_html_gets_the_page(self, running: Platform, accept: str) -> None:
        answer = get(running, "/_platform", accept=accept)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.body.lstrip().startswith(b"<!doctype html>")

    @pytest.mark.parametrize(
        "accept", ["", "*/*", "application/json", "application/json, text/html", "text/html;q=0", "x;q=y"]
    )
    def test_everybody_else_gets_the_document(self, running: Platform, accept: str) -> None:
        answer = get(running, "/_platform", accept=accept)
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()) == {"functions", "broker", "database", "llama_stack"}

    def test_it_draws_every_function_of_the_table_twice_for_two_widths(self, running: Platform) -> None:
        text = get(running, "/_platform", accept=BROWSER).body.decode()
        for name in running.description()["functions"]:
            assert text.count(f'data-box="{name}"') == 2
            assert text.count(f'data-function="{name}"') == 1
        assert text.count('data-n="trigger:dead-letter"') == 1

    def test_everything_that_it_names_is_there_and_comes_from_here(self, running: Platform) -> None:
        text = get(running, "/_platform", accept=BROWSER).body.decode()
        named = re.findall(r'(?:src|href)="(/_platform/[^"]*)"', text)
        assert {"/_platform/page/app.js", "/_platform/page/trace.css"} <= set(named)
        for path in named:
            answer = get(running, path)
            assert answer.status == 200, path
            for imported in re.findall(r'from "\./([^"]+)"', answer.body.decode()) if path.endswith(".js") else ():
                assert get(running, f"/_platform/page/{imported}").status == 200
        assert "http://" not in re.sub(r"localhost:\d+|http://www\.w3\.org/2000/svg", "", text)

    @pytest.mark.parametrize("name", ["none.js", "index.html", "..%2Fpages.py", ".js", "a/b.js"])
    def test_nothing_else_is_served(self, running: Platform, name: str) -> None:
        problem(get(running, f"/_platform/page/{name}"), 404)

    def test_a_file_is_sent_again_only_when_it_changed(self, running: Platform) -> None:
        first = get(running, "/_platform/page/app.js")
        again = get(running, "/_platform/page/app.js", if_none_match=first.headers["etag"])
        assert (again.status, again.body) == (304, b"")

    def test_every_answer_is_strict_about_what_may_run(self, running: Platform) -> None:
        page = f"/_platform/requests/{ask(running)}"
        for path in ("/_platform", page, "/_platform/page/app.js"):
            answer = get(running, path, accept=BROWSER)
            policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
            assert (
                policy["default-src"] == policy["form-action"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
            )
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert not re.search(rb"<[^>]+ (style|on\w+)=|<script>|<style", answer.body)


class TestOtherSites:
    PATHS = (
        "/_platform",
        "/_platform/feed",
        "/_platform/deliveries",
        "/_platform/trace/x",
        "/_platform/requests/x",
        "/_platform/no",
    )

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "x@y"]
    )
    def test_a_name_that_was_rebound_to_this_machine_reads_nothing(self, running: Platform, path: str, host: str) -> None:
        problem(get(running, path, host=host), 403)

    def test_nor_does_it_post(self, running: Platform, letters: Letters) -> None:
        number = letters.add("rebound")
        problem(letters.replay(number, host="evil.example", **{"sec-fetch-site": "same-origin"}), 403)
        problem(call("POST", f"{running.url}/_platform/webhook/x", json_body={}, headers={"host": "evil.example"}), 403)

    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:8080", "app.localhost", "127.0.0.1", "[::1]:8080", "192.0.2.7:80"]
    )
    def test_this_machines_names_and_addresses_are_known(self, running: Platform, host: str) -> None:
        assert get(running, "/_platform", host=host).status == 200

    def test_a_page_of_another_site_cannot_deliver_to_the_stand_ins(self, running: Platform) -> None:
        url = f"{running.url}/_platform/webhook/snow-integration"
        for headers in (FOREIGN, {"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "same-site"}):
            problem(call("POST", url, json_body={"request_id": "forged"}, headers=dict(headers)), 403)
        assert running.get("/_platform/deliveries?request_id=forged").json() == []

    @pytest.mark.parametrize(
        "headers", [{}, FOREIGN, {"origin": "null"}, {"sec-fetch-site": "none"}, {"origin": "https://evil.example"}], ids=str
    )
    def test_only_the_page_itself_replays(self, letters: Letters, headers: dict[str, str]) -> None:
        number = letters.add(f"not-replayed-{len(str(headers))}")
        problem(letters.replay(number, **headers), 403)
        assert letters.rows("SELECT replayed_at FROM dead_letters WHERE dead_letter_id = %s", number) == [(None,)]

    @pytest.mark.parametrize(
        ("peer", "here"),
        [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("192.0.2.7", False),
         ("::ffff:192.0.2.7", False), ("2001:db8::1", False)],
    )  # fmt: skip
    def test_who_comes_from_another_machine_is_known(self, peer: str, here: bool) -> None:
        assert guard.is_from_here(make_mocked_request("GET", "/").clone(remote=peer)) is here


class TestWhatHappens:
    def test_it_is_told_everything_and_then_what_changes(self, running: Platform) -> None:
        before = ask(running, "asked before anybody looked")
        with feed(running) as read:
            first = read(lambda change: True)
            assert first["reset"] is True
            assert before in [one["request_id"] for one in first["requests"]]
            assert set(first["functions"]) == set(running.description()["functions"])
            counted = first["numbers"]["in:ingest-web"]
            now = ask(running, "asked while somebody looks")
            change = read(lambda change: any(one["request_id"] == now for one in change.get("requests", ())))
            assert "reset" not in change
            assert change["numbers"]["in:ingest-web"] == counted + 1
            [seen] = [one for one in change["requests"] if one["request_id"] == now]
        assert (seen["content"], seen["user_id"], seen["integration"]) == ("asked while somebody looks", "ann", "web")
        assert (seen["status"], seen["answered_at"], seen["dead_letters"]) == (
            "stopped",
            None,
            0,
        )  # no Trigger here wants it

    def test_one_request_is_followed_alone(self, running: Platform) -> None:
        mine = ask(running)
        with feed(running, f"?request={mine}") as read, feed(running) as everything:
            assert [one["request_id"] for one in read(lambda change: True)["requests"]] == [mine]
            other = ask(running)
            everything(lambda change: any(one["request_id"] == other for one in change.get("requests", ())))
            event = {"ce-specversion": "1.0", "ce-type": "t", "ce-source": "/t", "ce-id": "again", "ce-requestid": mine}
            assert call("POST", running.description()["broker"]["url"], body=b"", headers=event).status == 202
            change = read(lambda change: True)
            assert change.keys() == {"requests"}
            assert [one["request_id"] for one in change["requests"]] == [mine]

    def test_a_function_that_dies_is_seen(self, running: Platform) -> None:
        with feed(running) as read:
            first = read(lambda change: True)
            restarts = first["functions"]["ingest-web"]["restarts"]
            os.kill(first["functions"]["ingest-web"]["pid"], signal.SIGKILL)
            change = read(lambda change: change.get("functions", {}).get("ingest-web", {}).get("restarts") == restarts + 1)
            assert change["functions"].keys() == {"ingest-web"}
        running.wait_healthy()

    def test_an_open_page_does_not_hold_the_platform_up(self, start: Start, tmp_path: Path) -> None:
        platform = start(tmp_path / "state")
        platform.wait_ready()
        answer = urllib3.request("GET", f"{platform.url}/_platform/feed", preload_content=False, timeout=30, retries=False)
        assert answer.readline().startswith(b"data: ")
        platform.process.send_signal(signal.SIGTERM)
        while answer.readline():  # to its proper end: a stream that is cut raises
            pass
        assert platform.wait() == 0


class TestARequestsWay:
    def test_it_is_what_the_broker_and_the_logs_know_of_it(self, running: Platform) -> None:
        request_id = ask(running, ATTACK)
        found = until(lambda: _with_logs(running, request_id), "the log line is written")
        assert (found["request_id"], found["status"], found["question"], found["user_id"]) == (
            request_id, "stopped", ATTACK, "ann",
        )  # fmt: skip
        [event] = found["events"]
        assert event["attributes"]["source"] == "/self-service-agent/ingest-web"
        assert event["data"]["content"] == ATTACK
        assert {line["function"] for line in found["logs"]} == {"ingest-web"}
        assert [line["at"] for line in found["logs"]] == sorted(line["at"] for line in found["logs"])

    def test_what_people_wrote_is_text_on_its_page(self, running: Platform) -> None:
        request_id = ask(running, ATTACK, user_id='"><b>x')
        answer = get(running, f"/_platform/requests/{request_id}", accept=BROWSER)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert b"&lt;script&gt;alert(" in answer.body
        assert b"<script>alert" not in answer.body
        assert b"<img" not in answer.body
        assert b"<b>x" not in answer.body

    def test_a_dead_letter_is_on_it_with_what_a_replay_would_do(self, running: Platform, letters: Letters) -> None:
        number = letters.add("unrecorded/1")
        found = get(running, "/_platform/requests/unrecorded%2F1").json()
        assert (found["status"], found["steps"], found["events"]) == ("unrecorded", [], [])
        [letter] = found["dead_letters"]
        assert (letter["id"], letter["code"], letter["destination"]) == (number, "503", "http://127.0.0.1:1/")
        assert letter["replay"].startswith("refused again") or letter["replay"] == "the request is recorded and worked on"
        page = get(running, "/_platform/requests/unrecorded%2F1", accept=BROWSER)
        assert f'data-replay="{number}"'.encode() in page.body

    def test_nothing_is_known_of_another(self, running: Platform) -> None:
        problem(get(running, "/_platform/requests/none"), 404)
        page = get(running, "/_platform/requests/%3Cscript%3E", accept=BROWSER)
        assert page.status == 404
        assert b"&lt;script&gt;" in page.body
        assert b"<script>" not in page.body

    def test_without_the_database_the_rest_is_shown(self, running: Platform) -> None:
        request_id = ask(running)
        pid = running.description()["database"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            found = get(running, f"/_platform/requests/{request_id}").json()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert found["note"].startswith("The database does not answer")
        assert len(found["events"]) == 1


class TestReplay:
    def test_a_dead_letter_is_sent_again_as_it_was_and_that_is_noted(self, running: Platform, letters: Letters) -> None:
        number = letters.add("replayed-1")
        with feed(running) as read:
            [listed] = [one for one in read(lambda change: "dead_letters" in change)["dead_letters"] if one["id"] == number]
            assert listed["is_open"] is True
            answer = letters.replay(number, **OWN)
            assert (answer.status, answer.json()["id"], answer.json()["published"]) == (200, number, True)
            after = read(lambda change: "dead_letters" in change)["dead_letters"]
            assert [one["is_open"] for one in after if one["id"] == number] == [False]
        [event] = get(running, "/_platform/requests/replayed-1").json()["events"]
        assert (event["id"], event["source"], event["data"]["content"]) == (
            "replayed-1",
            "/self-service-agent/ingest-web",
            ATTACK,
        )

    def test_the_pages_origin_is_enough_for_browsers_without_fetch_metadata(
        self, running: Platform, letters: Letters
    ) -> None:
        assert letters.replay(letters.add("replayed-2"), origin=running.url).status == 200

    def test_what_is_not_there_is_not_replayed(self, letters: Letters) -> None:
        assert "There is no dead letter" in problem(letters.replay(999_999, **OWN), 409)["detail"]

    def test_it_is_not_noted_when_the_broker_does_not_take_it(self, running: Platform, letters: Letters) -> None:
        number = letters.add("replayed-3")
        pid = running.description()["broker"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            problem(letters.replay(number, **OWN), 409)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert letters.rows("SELECT replayed_at FROM dead_letters WHERE dead_letter_id = %s", number) == [(None,)]


def _with_logs(platform: Platform, request_id: str) -> dict[str, Any]:
    found: dict[str, Any] = get(platform, f"/_platform/requests/{request_id}").json()
    return found if found["logs"] else {}
