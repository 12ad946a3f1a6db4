"""The page as people use it: asked on a phone and a desktop, by keyboard, by screen reader, and over a bad connection."""

from __future__ import annotations

import os
import signal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Route, expect

from tests.chain.conftest import Chain
from tests.chain.test_chain import rows
from tests.parts.net import call, problem
from tests.platform.support import until
from tests.web.support import DESKTOP, PHONE, People, Person, Scheme

MARKDOWN = """You can have a **new laptop** when the old one is *four years* old. Your choices:

| Model | Weight | Delivery |
|:--|--:|:-:|
| ThinkPad T14 | 1.4 kg | 3 days |
| MacBook Air | 1.2 kg | 5 days |

1. Save what is only on your laptop.
2. Find its serial number:

```bash
sudo dmidecode -s system-serial-number | tee /tmp/serial-number-of-this-laptop.txt && echo "then answer here with it"
```

- [x] Manager has agreed
- [ ] Old laptop is backed up

> Tell me `T14` or `Air`, and where to deliver it. More in the [laptop policy](https://example.com/policy)."""

ATTACKS = """<script>alert("script")</script> <img src=x onerror=alert("image")> <svg onload=alert("svg")>

<iframe srcdoc="<script>alert('frame')</script>"></iframe>

[click](javascript:alert("link")) [data](data:text/html,<script>alert("data")</script>) ![pixel](https://example.com/t.png)

<a href="javascript:alert('html')">html</a> [fine](https://example.com/fine)"""

SLOWLY, QUICKLY = 150, 1  # milliseconds that the model takes for a word
LOOKS: list[tuple[tuple[int, int], Scheme]] = [(PHONE, "light"), (PHONE, "dark"), (DESKTOP, "light"), (DESKTOP, "dark")]


def accessible(person: Person) -> None:
    """axe-core finds nothing (WCAG 2.2 A and AA, best practices)."""
    found = Axe().run(person.page)
    assert [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []


def fits(person: Person) -> None:
    """Nothing makes the page wider than the screen."""
    wide, screen = person.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= screen


def says(chain: Chain, text: str, **more: int) -> None:
    """Have the model answer `text` from now on."""
    call("POST", f"{chain.model_url}/_control", json_body={"say": text, **more})


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_a_question_is_asked_and_its_answer_read_while_it_is_written(
    people: People, chain: Chain, size: tuple[int, int], scheme: Scheme
) -> None:
    look = f"{'phone' if size == PHONE else 'desktop'}-{scheme}"
    person = people.person(size, scheme)
    person.comes_in()
    accessible(person)
    person.keeps(f"web-{look}-welcome")
    chain.control_model(word_delay_ms=SLOWLY, delay_ms=300)
    person.asks("I want to refresh my laptop")
    expect(person.page.locator(".progress-text")).to_have_text("Working on it")
    writing = person.page.locator(".answer.writing .answer-body")
    expect(writing).to_contain_text("About “I want to refresh my laptop”")
    early = writing.inner_text()
    person.keeps(f"web-{look}-writing")
    accessible(person)
    chain.control_model(word_delay_ms=QUICKLY)
    whole = person.answered().inner_text()
    assert len(early) < len(whole)
    assert whole.startswith(early)
    expect(person.page.locator(".answer .name")).to_have_text("Laptop refresh")
    says(chain, MARKDOWN, word_delay_ms=0, delay_ms=0)
    person.asks("My ThinkPad is four years old.\nWhat can I get, and what must I do first?")
    answer = person.answered(2)
    expect(answer.locator("table tr")).to_have_count(3)
    expect(answer.locator("strong")).to_have_text("new laptop")
    expect(answer.locator("pre")).to_contain_text("sudo dmidecode")
    expect(answer.get_by_role("link")).to_have_attribute("rel", "noopener noreferrer nofollow")
    expect(person.page.locator("#live")).to_contain_text("Answer: You can have a new laptop")
    fits(person)
    accessible(person)
    person.keeps(f"web-{look}-answer")


def test_the_front_door_gives_browsers_the_page_and_nobody_else(chain: Chain) -> None:
    door = chain.platform.url
    assert b"<!doctype html>" in call("GET", f"{door}/", headers={"accept": "text/html"}).body
    problem(call("GET", f"{door}/"), 405)
    problem(call("POST", f"{door}/", json_body={}), 404)
    problem(call("GET", f"{door}/web/none.js"), 404)


def test_a_person_is_asked_who_they_are_in_a_dialog_that_is_accessible(people: People) -> None:
    person = people.person(PHONE)
    expect(person.page.get_by_role("dialog", name="Who is asking?")).to_be_visible()
    accessible(person)
    person.page.keyboard.press("Escape")
    person.page.get_by_role("button", name="Start").click()
    expect(person.page.get_by_role("alert")).to_have_text("Please write a name.")
    expect(person.page.get_by_label("Your name or user id")).to_be_focused()
    person.comes_in("ann")
    expect(person.page.locator("#who")).to_contain_text("ann")


def test_the_conversation_is_there_after_a_reload_also_while_an_answer_is_written(people: People, chain: Chain) -> None:
    person = people.person().comes_in()
    person.asks("a first question about printers")
    first = person.answered().inner_text()
    chain.control_model(word_delay_ms=SLOWLY)
    person.asks("a second question about printers")
    expect(person.page.locator(".answer.writing .answer-body")).to_contain_text("a second question")
    person.page.reload()
    expect(person.page.locator(".answer.writing .answer-body")).to_contain_text("a second question")
    chain.control_model(word_delay_ms=QUICKLY)
    person.answered(2)
    person.page.reload()
    second = person.answered(2).inner_text()
    assert person.questions() == ["a first question about printers", "a second question about printers"]
    assert person.answers.all_inner_texts() == [first, second]
    assert "a first question" in second
    stored = rows(
        chain, "SELECT response_content FROM request_logs WHERE request_content LIKE %s", "a second question about%"
    )
    assert [(second,)] == stored


def test_a_new_conversation_knows_nothing_of_the_one_before(people: People) -> None:
    person = people.person().comes_in()
    person.asks("a question about printers")
    person.answered()
    person.page.get_by_role("button", name="New conversation").click()
    expect(person.page.get_by_role("heading", name="How can we help?")).to_be_visible()
    expect(person.box).to_be_focused()
    person.asks("What did I ask before?")
    expect(person.answered()).to_contain_text("This is the first message")


def test_everything_can_be_done_by_keyboard(people: People) -> None:
    person = people.person().comes_in()
    person.page.reload()
    person.page.keyboard.press("Tab")
    expect(person.page.get_by_role("link", name="Skip to the message box")).to_be_focused()
    person.page.keyboard.press("Enter")
    expect(person.box).to_be_focused()
    person.page.keyboard.type("one line")
    person.page.keyboard.press("Shift+Enter")
    person.page.keyboard.type("another")
    assert person.box.input_value() == "one line\nanother"
    person.page.keyboard.press("Enter")
    expect(person.box).to_have_value("")
    expect(person.box).to_be_focused()
    expect(person.answered()).to_contain_text("one line another")
    assert person.questions() == ["one line\nanother"]
    person.page.keyboard.press("Enter")  # an empty message is not sent
    for name in ("Conversation", "New conversation"):
        person.page.keyboard.press("Shift+Tab")
        expect(person.page.locator(":focus")).to_have_accessible_name(name)
    person.page.keyboard.press("Enter")
    expect(person.page.get_by_role("heading", name="How can we help?")).to_be_visible()
    person.page.keyboard.press("Shift+Tab")
    expect(person.page.get_by_role("button", name="What can you help me with?")).to_be_focused()
    person.page.keyboard.press("Enter")
    expect(person.answered()).to_contain_text("What can you help me with?")


def test_several_messages_at_once_are_answered_in_order(people: People, chain: Chain) -> None:
    person = people.person().comes_in()
    chain.control_model(delay_ms=150)
    sent = [f"message {number}" for number in range(3)]
    for content in sent:
        person.asks(content)
    person.answered(3)
    assert person.questions() == sent
    for content, answer in zip(sent, person.answers.all_inner_texts(), strict=True):
        assert f"You wrote: “{content}”" in answer


class TestABadConnection:
    def test_the_stream_is_taken_up_again_without_loss_or_repeat(self, people: People, chain: Chain) -> None:
        person = people.person().comes_in()
        says(chain, " ".join(f"word-{number}" for number in range(80)), word_delay_ms=SLOWLY)
        person.asks("Tell me a lot")
        writing = person.page.locator(".answer.writing .answer-body")
        expect(writing).to_contain_text("word-5")
        os.kill(chain.platform.description()["functions"]["request-status"]["pid"], signal.SIGKILL)
        cut_at = writing.inner_text()
        until(lambda: len(writing.inner_text()) > len(cut_at), "the answer goes on")
        resumed = writing.inner_text()
        chain.control_model(word_delay_ms=QUICKLY)
        whole = person.answered().inner_text()
        assert whole == " ".join(f"word-{number}" for number in range(80))
        assert cut_at < resumed < whole
        assert whole.startswith(cut_at)
        assert whole.startswith(resumed)
        expect(person.notice).to_be_hidden()

    def test_a_message_whose_202_was_lost_is_sent_again_as_the_same_one(self, people: People, chain: Chain) -> None:
        person = people.person().comes_in()
        keys: list[str] = []

        def lose_the_first(route: Route) -> None:
            keys.append(route.request.headers["idempotency-key"])
            if len(keys) == 1:
                route.fetch()  # it arrives, and the answer does not
                route.abort("connectionreset")
            else:
                route.continue_()

        person.page.route("**/api/v1/requests/web", lose_the_first)
        person.asks("only once, please")
        person.answered()
        assert len(keys) == 2
        assert len(set(keys)) == 1
        assert len(chain.model_calls()) == 1
        person.page.reload()
        person.answered()
        assert person.questions() == ["only once, please"]

    def test_what_is_written_offline_goes_out_later(self, people: People) -> None:
        person = people.person().comes_in()
        person.context.set_offline(True)
        expect(person.notice).to_contain_text("You are offline")
        person.asks("written in a tunnel")
        person.keeps("web-offline")
        accessible(person)
        person.context.set_offline(False)
        expect(person.answered()).to_contain_text("written in a tunnel")
        expect(person.notice).to_be_hidden()


class TestTrouble:
    def test_a_request_that_failed_says_why_and_can_be_tried_again(self, people: People, chain: Chain) -> None:
        person = people.person(PHONE).comes_in()
        switch = "UPDATE integration_configs SET enabled = %s WHERE integration_type = 'web' RETURNING 1"
        rows(chain, switch, False)
        try:
            person.asks("Is anybody there?")
            failure = person.answered()
            expect(failure).to_contain_text("Requests from here are switched off at the moment.")
            accessible(person)
            person.keeps("web-failure")
        finally:
            rows(chain, switch, True)
        person.page.get_by_role("button", name="Try again").click()
        expect(person.answered(2)).to_contain_text("Is anybody there?")

    def test_a_message_that_is_refused_comes_back_to_be_changed(self, people: People) -> None:
        person = people.person().comes_in()
        person.asks("a NUL: \x00")
        expect(person.answered()).to_contain_text("Some fields hold what cannot be stored. must not contain NUL")
        expect(person.page.get_by_text("Not sent")).to_be_visible()
        expect(person.box).to_have_value("a NUL: \x00")

    def test_what_the_policy_forbids_does_not_happen_and_is_noticed(self, people: People) -> None:
        person = people.person().comes_in()
        person.page.evaluate("() => { new Image().src = 'https://example.com/spy.png' }")
        until(lambda: people.complaints, "the browser complains")
        assert "Content Security Policy" in people.complaints.pop()

    def test_what_a_person_or_a_model_writes_never_runs(self, people: People, chain: Chain) -> None:
        person = people.person().comes_in('"><script>alert("name")</script>')
        says(chain, ATTACKS)
        person.asks(ATTACKS)
        answer = person.answered()
        assert person.questions() == [ATTACKS]
        links = answer.get_by_role("link")
        assert {one.get_attribute("href") for one in links.all()} == {
            "https://example.com/fine",
            "https://example.com/t.png",
        }
        assert answer.locator("script, img, svg, iframe, [onload], [onerror], [srcdoc]").count() == 0
        expect(answer).to_contain_text("<script>alert")
        person.page.reload()
        person.answered()
