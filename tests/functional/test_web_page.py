"""ingest-web's page over real HTTP: who gets it, what it carries, and what a browser is told about it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.parts.functions import Function
from tests.parts.net import Answer, call, free_port, problem
from tests.parts.samples import GATEWAY_SECRET

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
SETTINGS = {"BROKER_URL": f"http://127.0.0.1:{free_port()}", "GATEWAY_SECRET": GATEWAY_SECRET}


@pytest.fixture(scope="module")
def web() -> Iterator[Function]:
    function = Function("ingest-web", {**SETTINGS, "AUTH_MODE": "gateway"}, ready=False)
    yield function
    function.close()


def page(web: Function, user: str = "ann", **headers: str) -> Answer:
    return web.get("/", **BROWSER, x_gateway_secret=GATEWAY_SECRET, x_user_id=user, **headers)


def user_of(answer: Answer) -> str:
    [found] = re.findall(r'<meta name="user-id" content="([^"]*)">', answer.body.decode())
    return html.unescape(found)


def test_a_browser_gets_the_page_with_who_it_is(web: Function) -> None:
    answer = page(web)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert user_of(answer) == "ann"


def test_a_user_id_cannot_leave_its_attribute(web: Function) -> None:
    name = '"><script>alert(1)</script><meta content="'
    answer = page(web, name)
    assert user_of(answer) == name
    assert b"<script>alert" not in answer.body


def test_who_is_not_signed_in_is_told_so(web: Function) -> None:
    answer = web.get("/", **BROWSER, x_gateway_secret="wrong", x_user_id="ann")
    assert answer.status == 401
    assert b"You are not signed in" in answer.body
    assert answer.headers["cache-control"] == "no-store"


def test_without_sign_in_the_page_asks_itself(serve: Callable[..., Function]) -> None:
    open_to_all = serve("ingest-web", {**SETTINGS, "AUTH_MODE": "none"}, ready=False)
    assert user_of(open_to_all.get("/", **BROWSER)) == ""


@pytest.mark.parametrize("accept", ["", "*/*", "application/json"])
def test_who_does_not_ask_for_html_hears_that_this_is_for_posting(web: Function, accept: str) -> None:
    answer = web.get("/", accept=accept)
    problem(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_every_answer_is_strict_about_what_may_run(web: Function) -> None:
    for answer in (page(web), web.get("/", **BROWSER), web.get("/web/app.js")):
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_everything_that_the_page_names_is_there_and_comes_from_here(web: Function) -> None:
    text = page(web).body.decode()
    named = re.findall(r'(?:src|href)="([^"#][^"]*)"', text)
    assert named
    for path in named:
        assert path.startswith("/web/"), path
        assert web.get(path).status == 200
    for path in (one for one in named if one.endswith(".js")):
        script = web.get(path)
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        for imported in re.findall(r'from "\./([^"]+)"', script.body.decode()):
            assert web.get(f"/web/{imported}").status == 200


def test_a_file_is_sent_again_only_when_it_changed(web: Function) -> None:
    first = web.get("/web/style.css")
    assert first.headers["cache-control"] == "no-cache"
    again = web.get("/web/style.css", if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/web/none.js", "/web/index.html", "/web/..%2Ffunc.py", "/web/.js", "/web/", "/web/a/b.js", "/web/STYLE.css"]
)
def test_nothing_else_is_served(web: Function, path: str) -> None:
    problem(web.get(path), 404)


def test_files_are_not_posted_to(web: Function) -> None:
    body: dict[str, Any] = {}
    problem(call("POST", f"{web.url}/web/app.js", json_body=body), 405)
