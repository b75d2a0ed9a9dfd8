"""Leaving a page and coming back: the back/forward cache, and reloading within the grace."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Playwright, expect

from tests.browser.conftest import Served
from tests.support.browser import PageErrors, Somebody, launch, windows
from tests.support.recorder import Recorder

_REMEMBER_RETURN = (
    'addEventListener("pageshow", ({persisted}) => (document.documentElement.dataset.persisted = persisted))'
)


@pytest.fixture(scope="module")
def caching_browser(playwright: Playwright) -> Iterator[Browser]:
    """Run a Chromium that keeps pages in its back/forward cache, which Playwright switches off otherwise."""
    with launch(playwright, ignore_default_args=["--disable-back-forward-cache"]) as started:
        yield started


def test_a_page_in_the_back_forward_cache_is_offline_and_comes_back(
    served: Served,
    caching_browser: Browser,
    page_errors: PageErrors,
    watcher: Somebody,
) -> None:
    """A user who goes to another page is offline although this page is cached, and online after going back."""
    with windows(caching_browser, page_errors) as window:
        context = window()
        context.add_init_script(_REMEMBER_RETURN)
        alice = Somebody(context.new_page(), served.url, "alice-back")
        alice.come()
        alice.sign_in()
        watcher.sees(alice.name, "online")
        alice.page.goto("about:blank")
        watcher.sees(alice.name, "offline")
        alice.page.go_back(wait_until="commit")
        expect(alice.page.locator("html")).to_have_attribute("data-persisted", "true")
        watcher.sees(alice.name, "online")
        alice.is_shown("online")
        expect(alice.page.locator("#link-text")).to_have_text("Live")


def test_reloading_within_the_grace_does_not_flicker(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """A user who reloads within the grace is signed in again, and never shown as offline."""
    served = serve_one("embedded", "--grace", "60s")
    alice = somebody(served, "alice")
    alice.come()
    alice.sign_in()
    recorder = Recorder(
        served.mqtt_port, ("status/alice", "bridge/state"), user="watcher", log=served.page.log
    )
    try:
        recorder.wait_for_state("alice", "online")
        first = recorder.status("alice")["lastLogin"]["date"]
        alice.page.reload()  # without a password, the page signs in again
        expect(alice.page.locator("#link-text")).to_have_text("Live")
        recorder.wait_for(lambda: recorder.status("alice")["lastLogin"]["date"] > first, "the second login")
        assert {message.json["state"] for message in recorder.on("status/alice")} == {"online"}
        alice.page.click("#sign-out")
        recorder.wait_for(lambda: recorder.status("alice")["connections"] == 1, "the first has its grace")
        assert recorder.status("alice")["state"] == "online"
    finally:
        recorder.close()
