"""
A headless Chromium and the billing page in it.

Every test here also checks that the page has sent no request to another server, has not been stopped by its content
security policy, and has logged no error.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_server import PageServer

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            # Not beside the system tests: a browser and two Airflows at once are too much for a small machine.
            item.add_marker(pytest.mark.xdist_group("system"))


@pytest.fixture(scope="module")  # no longer, because Playwright keeps an event loop running, which other tests start
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer() as server:
        yield server


class Tab:
    """
    A browser tab, and what went wrong in it.

    :param server: serves the page.
    :param context: the browser's context; its options are set by a test.
    """

    def __init__(self, server: PageServer, context: Any) -> None:
        self.server, self.context = server, context
        self.page = context.new_page()
        self.problems: list[str] = []
        self.expected: tuple[str, ...] = ()  # parts of problems that a test causes
        context.on("request", self._check)
        context.on("console", lambda message: message.type in ("error", "warning") and self._note(message.text))
        context.on("weberror", lambda error: self._note(str(error.error)))
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => console.error('CSP', event.violatedDirective))"
        )

    def _check(self, request: Any) -> None:
        if not request.url.startswith((f"{self.server.origin}/", "data:")):
            self._note(f"a request to {request.url}")

    def _note(self, text: str) -> None:
        self.problems.append(text)

    def unexpected(self) -> list[str]:
        return [text for text in self.problems if not any(part in text for part in self.expected)]

    def open(self, url: str | None = None) -> Any:
        """Open the page and wait until each block has been read."""
        self.page.goto(url or self.server.url)
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until nothing is being read."""
        self.page.locator("#refreshed time").wait_for()
        self.page.locator("body:not(:has([aria-busy]))").wait_for()

    def text(self, selector: str) -> str:
        return " ".join(self.page.locator(selector).inner_text().split())


@pytest.fixture
def tab(request: pytest.FixtureRequest, chromium: Any, server: PageServer) -> Iterator[Tab]:
    """Open a tab. ``@pytest.mark.parametrize("tab", [{…}], indirect=True)`` sets options of the browser's context."""
    options = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", "timezone_id": "Europe/Berlin"}
    context = chromium.new_context(**options | getattr(request, "param", {}))
    tab = Tab(server, context)
    yield tab
    problems = tab.unexpected()
    context.close()
    assert problems == []
