"""The platform's page in Chromium, beside the chat: what somebody asks appears, its way is read, a dead letter replayed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from infra.cli.page import render
from tests.chain.conftest import Chain
from tests.chain.test_chain import rows
from tests.parts.net import call
from tests.platform.support import until
from tests.web.support import DESKTOP, PHONE, People, Person, Scheme
from tests.web.test_web import ATTACKS, LOOKS, QUICKLY, SLOWLY, accessible, fits

REFUSED = "The assistant could not work with this request."
CREATED = "com.self-service-agent.request.created"
REQUEST = {
    "request_id": "dead-1",
    "integration_type": "web",
    "user_id": "ann",
    "content": "asked by a dead letter",
    "conversation_key": "dead-letter-1",
    "accepted_at": "2026-01-02T03:04:05Z",
}


def watching(people: People, chain: Chain, size: tuple[int, int] = DESKTOP, scheme: Scheme = "light") -> Person:
    """Somebody who has the platform's page open, and what it shows is there."""
    person = people.person(size, scheme)
    person.page.goto(f"{chain.platform.url}/_platform")
    expect(person.page.locator("#health")).to_have_text("all ready")
    return person


def line(person: Person, content: str) -> Locator:
    """The request with that content in the list."""
    return person.page.locator("#requests-list li").filter(has_text=content)


def number(person: Person, key: str) -> int:
    """A number of the drawing."""
    return int(person.page.locator(f'svg.wide [data-n="{key}"]').text_content() or "")


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_what_is_asked_in_the_chat_appears_and_its_way_is_read(
    people: People, chain: Chain, size: tuple[int, int], scheme: Scheme
) -> None:
    look = f"{'phone' if size == PHONE else 'desktop'}-{scheme}"
    asking = people.person().comes_in()
    one = watching(people, chain, size, scheme)
    before = number(one, "in:ingest-web"), number(one, "trigger:response-dispatch-agent-response-ready")
    asking.asks(f"My laptop is slow, seen on a {look}")
    found = line(one, f"seen on a {look}")
    expect(found.locator(".pill").last).to_have_text("completed")
    until(lambda: number(one, "in:ingest-web") > before[0], "the request is counted")
    until(lambda: number(one, "trigger:response-dispatch-agent-response-ready") > before[1], "its answer is counted")
    accessible(one)
    fits(one)
    one.keeps(f"platform-{look}")
    found.get_by_role("link").click()
    expect(one.page.get_by_role("heading", level=1)).to_have_text(f"My laptop is slow, seen on a {look}")
    expect(one.page.locator(".answered")).to_contain_text("About “My laptop is slow")
    deliveries = one.page.locator("summary.line .who")
    expect(deliveries).to_have_text(
        ["session-upsert request.created", "agent-invoke session.created", "response-dispatch agent.response-ready"]
    )
    deliveries.nth(1).click()
    opened = one.page.locator("details[open]")
    expect(opened.get_by_label("Data of the event")).to_contain_text('"opened": true')
    expect(opened.get_by_role("table", name="Tries").locator("tbody td").nth(3)).to_have_text("200")
    expect(one.page.locator(".logs")).to_contain_text("ingest-web")
    accessible(one)
    fits(one)
    one.keeps(f"platform-way-{look}")


def test_a_request_under_way_is_shown_where_it_is_and_its_page_goes_on_with_it(people: People, chain: Chain) -> None:
    one = watching(people, chain)
    chain.control_model(word_delay_ms=SLOWLY)
    chain.send("cli", {"content": "a question that takes its time", "cli_session_id": "slow"})
    expect(line(one, "takes its time")).to_contain_text("at agent-invoke")
    expect(line(one, "takes its time").locator(".pill").last).to_have_text("under way")
    one.page.get_by_label("Which requests").select_option("Under way")
    expect(one.page.locator("#requests-list li:visible")).to_have_count(1)
    line(one, "takes its time").get_by_role("link").click()
    expect(one.page.locator(".top .pill")).to_have_text("processing")
    expect(one.page.locator("summary.line").nth(1)).to_contain_text("under way")
    chain.control_model(word_delay_ms=QUICKLY)
    expect(one.page.locator(".top .pill")).to_have_text("completed")
    expect(one.page.locator(".answered")).to_contain_text("takes its time")


def test_a_dead_letter_is_replayed_by_keyboard(people: People, chain: Chain) -> None:
    one = watching(people, chain, PHONE, "dark")
    kept = {"attributes": {"specversion": "1.0", "id": "dead-1", "source": "/self-service-agent/ingest-web", "type": CREATED,
                           "requestid": "dead-1", "integration": "web", "datacontenttype": "application/json"},
            "data": REQUEST}  # fmt: skip
    rows(
        chain,
        "INSERT INTO dead_letters (event_source, event_id, event_type, request_id, destination, error_code, event)"
        " VALUES ('/self-service-agent/ingest-web', 'dead-1', %s, 'dead-1', 'http://127.0.0.1:1/', '503', %s) RETURNING 1",
        CREATED,
        json.dumps(kept),
    )
    one.page.reload()
    letter = one.page.locator("#letters-list li")
    expect(letter).to_contain_text("A replay would do this: the request is recorded and worked on.")
    accessible(one)
    fits(one)
    replay = one.page.get_by_role("button", name="Replay dead letter")
    replay.focus()
    one.keeps("platform-dead-letter")
    one.page.keyboard.press("Enter")
    expect(one.page.locator("#replayed")).to_contain_text("was sent again: the request is recorded and worked on.")
    # THEN it goes its way, and says so
    expect(line(one, "asked by a dead letter").locator(".pill").last).to_have_text("completed")
    expect(letter).to_contain_text("replayed")
    expect(one.page.get_by_role("button", name="Replay again dead letter")).to_be_visible()
    expect(one.page.locator("#letters-number")).to_be_hidden()
    assert chain.result("dead-1")["status"] == "completed"


def test_a_request_that_failed_says_so_on_both_pages(people: People, chain: Chain) -> None:
    one = watching(people, chain)
    chain.control_model(fail_next=100, status=400)
    chain.ask("cli", {"content": "nobody will answer this", "cli_session_id": "failing"})
    expect(line(one, "nobody will answer this")).to_contain_text("failed")
    one.page.get_by_label("Which requests").select_option("Failed")
    line(one, "nobody will answer this").get_by_role("link").click()
    expect(one.page.locator(".failure")).to_contain_text(REFUSED)
    expect(one.page.locator(".outcome.bad")).to_contain_text("agent_request_refused")
    accessible(one)


def test_what_people_and_models_write_never_runs(people: People, chain: Chain) -> None:
    one = watching(people, chain)
    call("POST", f"{chain.model_url}/_control", json_body={"say": ATTACKS})
    content = "Attacks: " + ATTACKS
    chain.ask("web", {"content": content, "user_id": '"><script>alert("user")</script>', "session_token": "attacks"})
    found = line(one, "Attacks: ")
    expect(found).to_contain_text("<script>alert")
    found.get_by_role("link").click()
    expect(one.page.get_by_role("heading", level=1)).to_have_text(content)
    expect(one.page.locator(".answered")).to_contain_text("<script>alert")
    for summary in one.page.locator("summary").all():
        summary.click()
    main = one.page.locator("main")
    assert main.locator("script, img, iframe, [onload], [onerror], [srcdoc], a[href^='javascript']").count() == 0
    one.page.get_by_role("link", name="The platform").click()
    one.page.get_by_label("Search the requests").fill("onerror=alert")
    expect(one.page.locator("#requests-number")).to_contain_text("1 of")


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_the_page_of_the_command_has_its_style_in_itself(
    people: People, chain: Chain, tmp_path: Path, size: tuple[int, int], scheme: Scheme
) -> None:
    request_id = chain.ask("tool")["request_id"]
    one = people.person(size, scheme)
    file = tmp_path / "way.html"
    file.write_text(render(call("GET", f"{chain.platform.url}/_platform/requests/{request_id}").json()), encoding="utf-8")
    one.page.goto(file.as_uri())
    expect(one.page.locator(".top")).to_have_css("position", "sticky")
    expect(one.page.locator("summary.line")).to_have_count(3)
    accessible_file(one)
    fits(one)


def accessible_file(person: Person) -> None:
    """As `accessible`; the policy of such a file lets no script in, axe's neither: it is looked at without the policy."""
    text = person.page.content()
    person.page.goto("about:blank")
    person.page.set_content(re.sub(r"<meta http-equiv[^>]*>", "", text))
    accessible(person)
