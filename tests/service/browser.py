"""A real Chromium for tests of the page, and what a tab of it has done that it should not."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP: Mapping[str, Any] = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"}
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium of this machine. Without one the test is skipped, but fails in CI, which installs it."""
    found = next((path for path in map(shutil.which, PROGRAMS) if path), None)
    if found is None:
        message = f"no Chromium here (looked for {', '.join(PROGRAMS)}); on Debian: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        yield browser
        browser.close()


class Tab:
    """One tab, and what went wrong in it: messages of the console and requests to anything but the service."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.requests: list[Request] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._asked)

    def open(self, run: str | None = None) -> Page:
        """Load the page, on the run of that id or path, and wait until it is drawn."""
        self.page.goto(self.url + ("" if run is None else f"/#run={run.split('/')[-1]}"))
        if run is not None:
            self.page.wait_for_selector("#mixture-plot .main-svg")
            self.page.wait_for_selector("#connection[data-state=live]")
        return self.page

    def open_file(self, name: str) -> Page:
        """Show one of the page's modules as text: from there it can be imported, without all the rest."""
        self.page.goto(f"{self.url}/page/{name}")
        return self.page

    def _heard(self, message: ConsoleMessage) -> None:
        # the browser itself logs each answer that is not a success, which tests ask for
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def _asked(self, request: Request) -> None:
        self.requests.append(request)
        if not request.url.startswith((self.url, "data:")):
            self.foreign.append(request.url)


@contextmanager
def tab(browser: Browser | BrowserContext, url: str, **options: Any) -> Iterator[Tab]:
    """A tab of a browser profile of its own, or of one that is there; at the end nothing may have gone wrong in it."""
    own = browser.new_context(**{**DESKTOP, **options}) if isinstance(browser, Browser) else None
    opened = Tab((own or browser).new_page(), url)
    yield opened
    opened.page.evaluate("localStorage.clear()")
    (own or opened.page).close()
    assert opened.errors == []
    assert opened.foreign == []
