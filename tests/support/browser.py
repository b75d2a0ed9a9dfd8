"""A real browser: Chromium without a screen, and people in front of it. Whatever it complains of fails the test."""

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

# Chromium says so on the console too, but only this names the directive in every version.
_TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} forbids ${event.blockedURI} at ${event.sourceFile}:${event.lineNumber}`));
"""


def launch(playwright: Playwright, **how: Any) -> Browser:
    """Start the Chromium that is installed; there being none is a failure."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    assert path is not None, "Chromium is not installed: make tools"
    return playwright.chromium.launch(executable_path=path, args=list(FLAGS), **how)


class RateLimitedLog:
    """What pages say on the console, and what is thrown in them."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._allowed: list[str] = []

    def listen(self, context: BrowserContext) -> None:
        """Hear all pages of a context, those to come too."""
        context.add_init_script(_TELL_VIOLATIONS)
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.heard.append(f"thrown: {error.error}"))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self.heard.append(f"{message.type}: {message.text}")

    def allow(self, pattern: str) -> None:
        """Say that this may be, e.g. that there is no connection while the broker is down."""
        self._allowed.append(pattern)

    def assert_none(self) -> None:
        """Nothing was said but what may be."""
        others = [text for text in self.heard if not any(re.search(p, text) for p in self._allowed)]
        assert others == [], "\n".join(others)


class Somebody:
    """Somebody in front of the live page.

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
        """Give the name, and be in."""
        self.try_to_sign_in(password)
        expect(self.page.locator("#signed-in")).to_be_visible()
        expect(self.page.locator("#link-text")).to_have_text("Live")

    def try_to_sign_in(self, password: str | None = None) -> None:
        """Give the name, whatever comes of it."""
        self.page.fill("#name", self.name)
        if password is not None:
            self.page.fill("#password", password)
        self.page.click("#enter")

    # What is to be seen.

    def row(self, name: str) -> Locator:
        """Return somebody's row in the table."""
        cell = self.page.locator(".name", has_text=re.compile(f"^{re.escape(name)}$"))
        return self.page.locator("#people-rows tr").filter(has=cell)

    def sees(self, name: str, state: str) -> None:
        """See somebody in this state, in the table and among the pills."""
        expect(self.row(name).locator(".state")).to_have_text(state.capitalize())
        pill = self.page.locator("#pills .pill").filter(has_text=re.compile(f"^.?{re.escape(name)}, "))
        if state == "offline":
            expect(pill).to_have_count(0)
        else:
            expect(pill).to_have_attribute("data-state", state)

    def is_shown(self, state: str) -> None:
        """See one's own state."""
        expect(self.page.locator("#my-state")).to_have_text(state.capitalize())

    def notices(self, text: str) -> None:
        """Read what is wrong; empty: nothing is."""
        expect(self.page.locator("#notice")).to_contain_text(text) if text else expect(
            self.page.locator("#notice")
        ).to_be_empty()


@contextmanager
def windows(browser: Browser, complaints: RateLimitedLog) -> Iterator[Any]:
    """Yield a function that opens a window: a browser of its own, with nothing in common with another."""
    contexts: list[BrowserContext] = []

    def window(**how: Any) -> BrowserContext:
        context = browser.new_context(**{"locale": "en-GB", "timezone_id": "UTC"} | how)
        complaints.listen(context)
        contexts.append(context)
        return context

    try:
        yield window
    finally:
        for context in contexts:
            context.close()
