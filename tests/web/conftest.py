"""The page in a real Chromium, on the whole running platform."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.chain.conftest import Chain
from tests.parts.llama import ROOT
from tests.parts.net import call
from tests.platform.support import Platform
from tests.web.support import ARGUMENTS, People

_IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is; in CI it is installed when it is missing, elsewhere the tests are skipped without it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None and _IN_CI and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]):
            subprocess.run(command, env=quiet, check=True, stdout=subprocess.DEVNULL)
        found = shutil.which("chromium")
    if found is None:
        missing = "Chromium is not installed (on Debian: apt-get install chromium)"
        if _IN_CI:
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture(scope="package")  # not longer: Playwright's event loop runs in this thread until it is stopped
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    venv = os.environ.get("LLAMA_STACK_VENV") or str(ROOT / ".state" / "llama-stack")
    state = tmp_path_factory.mktemp("web") / "state"
    running = Platform(state, {"LLAMA_STACK_VENV": venv}, ROOT / "infra" / "topology.yaml")
    running.wait_ready()
    yield running
    running.close()


@pytest.fixture
def chain(platform: Platform) -> Iterator[Chain]:
    platform.wait_healthy()
    one = Chain(platform)
    call("POST", f"{one.model_url}/_control/reset")
    yield one
    call("POST", f"{one.model_url}/_control/reset")


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
