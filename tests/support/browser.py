"""A real browser: Chromium without a screen, and users of the live page. An unexpected error of a page fails the test."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Playwright, expect

FLAGS = (
    "--no-sandbox",  # root, in containers, has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DEADLINE_MS = 15_000
expect.set_options(timeout=DEADLINE_MS)

# Chromium logs violations, too, but some versions omit the directive.
_LOG_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} forbids ${event.blockedURI} at ${event.sourceFile}:${event.lineNumber}`));
"""


def launch(playwright: Playwright, **how: Any) -> Browser:
    """Start the installed Chromium; fail without one."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    assert path is not None, "Chromium is not installed: make tools"
    return playwright.chromium.launch(executable_path=path, args=list(FLAGS), **how)


class PageErrors:
    """Errors of pages: messages on the console, and exceptions."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._allowed: list[str] = []

    def listen(self, context: BrowserContext) -> None:
        """Collect the errors of all pages of a context, including later ones."""
        context.add_init_script(_LOG_VIOLATIONS)
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.errors.append(f"thrown: {error.error}"))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self.errors.append(f"{message.type}: {message.text}")

    def allow(self, pattern: str) -> None:
        """Allow errors that match a pattern, for example while the broker is down."""
        self._allowed.append(pattern)

    def assert_none(self) -> None:
        """Fail if there is an error that is not allowed."""
        others = [text for text in self.errors if not any(re.search(p, text) for p in self._allowed)]
        assert others == [], "\n".join(others)


class Somebody:
    """A user of the live page.

    Args:
        page: a tab.
        url: of the live page.
        name: whose name to give; empty: theirs who do not sign in.

    """

    def __init__(self, page: Page, url: str, name: str) -> None:
        self.page = page
        self.url = url
        self.name = name

    def come(self, fragment: str = "") -> None:
        """Open the page."""
        self.page.goto(self.url + fragment)
        expect(self.page.locator("#sign-in-view")).to_be_visible()

    def sign_in(self, password: str | None = None) -> None:
        """Sign in."""
        self.try_to_sign_in(password)
        expect(self.page.locator("#signed-in")).to_be_visible()
        expect(self.page.locator("#link-text")).to_have_text("Live")

    def try_to_sign_in(self, password: str | None = None) -> None:
        """Submit the login, without waiting for the result."""
        self.page.fill("#name", self.name)
        if password is not None:
            self.page.fill("#password", password)
        self.page.click("#enter")

    # What is to be seen.

    def row(self, name: str) -> Locator:
        """Return a user's row in the table."""
        cell = self.page.locator(".name", has_text=re.compile(f"^{re.escape(name)}$"))
        return self.page.locator("#people-rows tr").filter(has=cell)

    def sees(self, name: str, state: str) -> None:
        """Wait until a user is shown in a state."""
        expect(self.row(name).locator(".state")).to_have_text(state.capitalize())

    def is_shown(self, state: str) -> None:
        """Wait until the page shows the own state."""
        expect(self.page.locator("#my-state")).to_have_text(state.capitalize())

    def notices(self, text: str) -> None:
        """Wait for a text in the notice; empty for no notice."""
        expect(self.page.locator("#notice")).to_contain_text(text) if text else expect(
            self.page.locator("#notice")
        ).to_be_empty()


@contextmanager
def windows(browser: Browser, page_errors: PageErrors) -> Iterator[Any]:
    """Yield a function that opens a window with its own storage and cookies."""
    contexts: list[BrowserContext] = []

    def window(**how: Any) -> BrowserContext:
        context = browser.new_context(**{"locale": "en-GB", "timezone_id": "UTC"} | how)
        page_errors.listen(context)
        contexts.append(context)
        return context

    try:
        yield window
    finally:
        for context in contexts:
            context.close()
