"""The page in a real Chromium, on the whole running platform."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.parts import debian
from tests.parts.chain import Chain, chain, platform
from tests.web.support import ARGUMENTS, People

__all__ = ["browser", "chain", "chromium", "people", "platform"]


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is; in CI it is installed when it is missing, elsewhere the tests are skipped without it."""
    return debian.program("chromium", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="package")  # not longer: Playwright's event loop runs in this thread until it is stopped
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def people(browser: Browser, chain: Chain) -> Iterator[People]:
    """People with a browser each; what their consoles and the Content-Security-Policy complained of fails the test."""
    ours = People(browser, chain.platform.url)
    yield ours
    with suppress(KeyError):
        folder = Path(os.environ["WEB_SCREENSHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        ours.keep(folder)
    ours.close()
    assert ours.complaints == []
