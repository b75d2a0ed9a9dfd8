"""Statuses of two users in two browsers, on both brokers."""

from collections.abc import Callable
from contextlib import suppress
from itertools import count

import pytest
from playwright.sync_api import Error, expect

from tests.browser.conftest import Served
from tests.support.browser import Somebody

_number = count(1)


@pytest.fixture
def alice(served: Served, watcher: Somebody, somebody: Callable[..., Somebody]) -> Somebody:
    """Sign alice in; alice and the watcher see each other."""
    alice = somebody(served, f"alice-{next(_number)}")
    alice.page.clock.install()
    alice.come()
    alice.sign_in()
    watcher.page.mouse.click(5, 5)  # a watcher without activity for a minute is idle
    alice.sees(watcher.name, "online")
    watcher.sees(alice.name, "online")
    return alice


def test_idle_and_active_are_seen_by_others(alice: Somebody, watcher: Somebody) -> None:
    """A user without activity for a minute is shown as idle, and as active after the next click."""
    alice.page.clock.fast_forward(62_000)
    alice.is_shown("idle")
    watcher.sees(alice.name, "idle")
    expect(watcher.row(alice.name).locator("td[data-label='Last seen']")).to_contain_text("just now")
    alice.page.mouse.click(5, 5)
    alice.is_shown("online")
    watcher.sees(alice.name, "online")
    expect(watcher.row(alice.name).locator("td[data-label='Last seen']")).to_have_text("active now")


def test_signing_out_is_seen_at_once(alice: Somebody, watcher: Somebody) -> None:
    """A user who signs out is offline, and sees the login."""
    alice.page.click("#sign-out")
    expect(alice.page.locator("#sign-in-view")).to_be_visible()
    watcher.sees(alice.name, "offline")
    alice.sign_in()
    watcher.sees(alice.name, "online")


def test_a_tab_that_closes_is_offline(alice: Somebody, watcher: Somebody) -> None:
    """A user who closes the tab is offline."""
    alice.page.close()
    watcher.sees(alice.name, "offline")


def test_a_tab_that_crashes_is_offline(alice: Somebody, watcher: Somebody) -> None:
    """The renderer is killed, and the broker publishes the will."""
    with alice.page.expect_event("crash"), suppress(Error):  # it never gets there
        alice.page.goto("chrome://crash")
    watcher.sees(alice.name, "offline")


def test_two_tabs_of_one_browser_share_activity(
    served: Served, alice: Somebody, watcher: Somebody, somebody: Callable[..., Somebody]
) -> None:
    """Activity in one tab counts in the other; the user has two connections."""
    second = somebody(served, alice.name, beside=alice)
    second.come()
    second.sign_in()
    expect(watcher.row(alice.name).locator("td").last).to_have_text("2")
    alice.page.clock.fast_forward(50_000)  # of both: the clock is the window's
    expect(second.page.locator("#last-activity")).not_to_have_text("just now")
    alice.page.mouse.click(5, 5)
    expect(second.page.locator("#last-activity")).to_have_text("just now")
    alice.page.clock.fast_forward(20_000)
    second.is_shown("online")
    watcher.sees(alice.name, "online")
    alice.page.clock.fast_forward(45_000)
    second.is_shown("idle")
    watcher.sees(alice.name, "idle")
