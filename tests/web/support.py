"""A person with a browser: what they do on the page, and what they see."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, BrowserContext, Dialog, Locator, Page, expect

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE, DESKTOP = (390, 844), (1280, 800)
WAIT_MS = 15_000

Scheme = Literal["light", "dark"]

expect.set_options(timeout=WAIT_MS)


class Person:
    """One person on the page, in a browser of their own that has never been here."""

    def __init__(self, context: BrowserContext, url: str, complaints: list[str]) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("pageerror", lambda error: complaints.append(str(error)))
        self.page.on("console", lambda said: complaints.append(said.text) if _is_complaint(said.text, said.type) else None)
        self.page.on("dialog", self._sees_dialog)
        self._complaints = complaints
        self.shots: dict[str, bytes] = {}
        self.page.goto(url)

    def _sees_dialog(self, shown: Dialog) -> None:
        self._complaints.append(f"dialog: {shown.message}")
        shown.dismiss()

    def comes_in(self, name: str = "Ann") -> Person:
        """Says who they are, where the page asks."""
        self.page.get_by_label("Your name or user id").fill(name)
        self.page.keyboard.press("Enter")
        expect(self.page.get_by_role("heading", name="How can we help?")).to_be_visible()
        return self

    @property
    def box(self) -> Locator:
        """The message box."""
        return self.page.get_by_role("textbox", name="Your message")

    def asks(self, content: str) -> None:
        """Writes a message and sends it."""
        self.box.fill(content)
        self.box.press("Enter")

    def questions(self) -> list[str]:
        """What they wrote, as the page shows it."""
        return self.page.locator(".question .bubble").all_inner_texts()

    @property
    def answers(self) -> Locator:
        """The answers, also those being written."""
        return self.page.locator(".answer .answer-body")

    def answered(self, number: int = 1) -> Locator:
        """Waits for the answer of that number; it."""
        finished = self.page.locator(".answer:not([aria-busy]) .answer-body")
        expect(finished).to_have_count(number)
        return finished.nth(number - 1)

    @property
    def notice(self) -> Locator:
        """What the page says about the connection."""
        return self.page.locator("#notice")

    def keeps(self, name: str) -> None:
        """Takes a picture of what they see."""
        self.shots[name] = self.page.screenshot(animations="disabled")


class People:
    """Opens browsers for a test."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url
        self._people: list[Person] = []
        self.complaints: list[str] = []

    def person(self, size: tuple[int, int] = DESKTOP, scheme: Scheme = "light", **options: Any) -> Person:
        """Somebody who opens the page for the first time."""
        phone = size == PHONE
        context = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            has_touch=phone,
            is_mobile=phone,
            locale="en-GB",
            **options,
        )
        one = Person(context, self._url, self.complaints)
        self._people.append(one)
        return one

    def keep(self, folder: Path) -> None:
        """Write the pictures that were taken."""
        for person in self._people:
            for name, shot in person.shots.items():
                (folder / f"{name}.png").write_bytes(shot)

    def close(self) -> None:
        """Close every browser."""
        for person in self._people:
            person.context.close()


def _is_complaint(text: str, kind: str) -> bool:
    # A request that failed is what several of the tests are about; the browser notes each.
    return kind in ("error", "warning") and not text.startswith("Failed to load resource")
