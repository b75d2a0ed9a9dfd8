"""Who is shown as what: two people, each in a window, on both brokers."""

from collections.abc import Callable
from contextlib import suppress
from itertools import count

import pytest
from playwright.sync_api import Error, expect

from tests.browser.conftest import Served
from tests.support.browser import Somebody

_number = count(1)


@pytest.fixture
def two(served: Served, somebody: Callable[..., Somebody]) -> tuple[Somebody, Somebody]:
    """Put alice and bob in front of the page; each sees the other."""
    number = next(_number)
    alice, bob = (somebody(served, f"{name}-{number}") for name in ("alice", "bob"))
    for who in (alice, bob):
        who.page.clock.install()
        who.come()
        who.sign_in()
    alice.sees(bob.name, "online")
    bob.sees(alice.name, "online")
    return alice, bob


def test_idle_and_active_are_seen_by_others(two: tuple[Somebody, Somebody]) -> None:
    """Who does nothing for a minute is idle, to themselves and to others, and active with the next click."""
    alice, bob = two
    alice.page.clock.fast_forward(62_000)
    alice.is_shown("idle")
    bob.sees(alice.name, "idle")
    expect(bob.row(alice.name).locator("td[data-label='Last activity']")).to_contain_text("just now")
    alice.page.mouse.click(5, 5)
    alice.is_shown("online")
    bob.sees(alice.name, "online")


def test_signing_out_is_seen_at_once(two: tuple[Somebody, Somebody]) -> None:
    """Who signs out is offline, and back at the door."""
    alice, bob = two
    alice.page.click("#sign-out")
    expect(alice.page.locator("#door")).to_be_visible()
    bob.sees(alice.name, "offline")
    alice.sign_in()
    bob.sees(alice.name, "online")


def test_a_tab_that_closes_is_offline(two: tuple[Somebody, Somebody]) -> None:
    """Whoever closes the tab is gone, without a word."""
    alice, bob = two
    alice.page.close()
    bob.sees(alice.name, "offline")


def test_a_tab_that_crashes_is_offline(two: tuple[Somebody, Somebody]) -> None:
    """The renderer is killed: the broker publishes the will."""
    alice, bob = two
    with alice.page.expect_event("crash"), suppress(Error):  # it never gets there
        alice.page.goto("chrome://crash")
    bob.sees(alice.name, "offline")


def test_two_tabs_of_one_browser_share_what_is_done(
    served: Served, two: tuple[Somebody, Somebody], somebody: Callable[..., Somebody]
) -> None:
    """What is done in one tab counts in the other; two connections, one user."""
    alice, bob = two
    second = somebody(served, alice.name, beside=alice)
    second.come()
    second.sign_in()
    expect(bob.row(alice.name).locator("td").last).to_have_text("2")
    alice.page.clock.fast_forward(50_000)  # of both: the clock is the window's
    expect(second.page.locator("#last-activity")).not_to_have_text("just now")
    alice.page.mouse.click(5, 5)
    expect(second.page.locator("#last-activity")).to_have_text("just now")
    alice.page.clock.fast_forward(20_000)
    second.is_shown("online")
    bob.sees(alice.name, "online")
    alice.page.clock.fast_forward(45_000)
    second.is_shown("idle")
    bob.sees(alice.name, "idle")
