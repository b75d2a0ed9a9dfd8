"""Accessibility of the page: axe-core reports no violation, and the keyboard is enough."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Served, one_broker
from tests.support.browser import Somebody
from tests.support.mqtt import Client

AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 800}


def faults(page: Page) -> list[str]:
    """Return the violations that axe-core reports."""
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [f"{fault['id']}: {node['html'][:200]}" for fault in found for node in fault["nodes"]]


@pytest.mark.parametrize(("theme", "size"), [("light", WIDE), ("dark", PHONE)])
def test_axe_finds_nothing(
    theme: str, size: dict[str, int], crowded: Served, somebody: Callable[..., Somebody]
) -> None:
    """Contrast, names and roles are right at the login and in all views, in light and dark, on any width."""
    ada = somebody(crowded, "ada", color_scheme=theme, viewport=size, reduced_motion="reduce")
    ada.come()
    ada.page.evaluate(AXE.read_text("utf-8"))
    assert faults(ada.page) == []
    ada.sign_in()
    ada.sees("dmitri", "idle")
    ada.sees("ada", "online")
    assert faults(ada.page) == []
    ada.page.click("#own")
    expect(ada.page.locator("#you")).to_be_visible()
    assert faults(ada.page) == [], "the own panel"
    ada.page.click("#own")
    ada.row("ada").locator("a").click()
    expect(ada.page.locator("#devices tr").first).to_be_visible()
    ada.page.click("#range-free")
    expect(ada.page.locator("#line-rows tr").first).to_be_visible()
    assert faults(ada.page) == [], "a person"
    for view, sign in (("connections", "#connections-rows tr"), ("history", "#lines .span")):
        ada.page.click(f"#views a[href$='#{view}']")
        expect(ada.page.locator(sign).first).to_be_visible()
        if view == "history":
            expect(ada.page.locator("#chart canvas")).to_be_visible()
        assert faults(ada.page) == [], view
    ada.page.go_back()
    ada.page.go_back()
    ada.page.click("#forget")
    expect(ada.page.locator("#forget-dialog")).to_be_visible()
    assert faults(ada.page) == [], "the confirmation"


@pytest.mark.parametrize(("theme", "size"), [("light", PHONE), ("dark", WIDE)])
def test_axe_finds_nothing_where_there_is_little(
    theme: str, size: dict[str, int], serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """The empty page, locked views with a form, and a user without a status."""
    served = serve_one("embedded", "--web-token", "a-token-of-the-tests")
    ada = somebody(served, "ada", color_scheme=theme, viewport=size, reduced_motion="reduce")
    ada.come()
    ada.page.evaluate(AXE.read_text("utf-8"))
    ada.sign_in()
    expect(ada.page.locator("#first-device")).to_be_visible()
    assert faults(ada.page) == [], "empty"
    for fragment in ("connections", "history", "person/nobody"):
        ada.page.evaluate(f"location.hash = {fragment!r}")
        expect(ada.page.locator("#locked")).to_be_visible()
        expect(ada.page.locator(f"#{fragment.partition('/')[0]}-title")).to_be_focused()
        assert faults(ada.page) == [], fragment


@one_broker
def test_the_keyboard_is_enough(served: Served, somebody: Callable[..., Somebody]) -> None:
    """Sign in, stop and start the monitor, filter, sort and search without a mouse."""
    ada = somebody(served, "ada-keys", viewport=WIDE)
    ada.come()
    keyboard = ada.page.keyboard
    expect(ada.page.locator("#name")).to_be_focused()
    keyboard.type("ada-keys")
    keyboard.press("Enter")
    ada.sees("ada-keys", "online")

    def go_to(selector: str) -> None:
        for _ in range(30):
            keyboard.press("Tab")
            if ada.page.locator(selector).evaluate("(element) => element === document.activeElement"):
                return
        pytest.fail(f"Tab does not come to {selector}")

    go_to("#own")
    keyboard.press("Enter")
    expect(ada.page.locator("#start-stop")).to_have_text("Stop")
    go_to("#start-stop")
    keyboard.press("Enter")
    expect(ada.page.locator("#start-stop")).to_have_text("Start")
    go_to("#search")
    keyboard.type("nobody is called this")
    expect(ada.page.locator("#people-empty")).to_have_text("No user matches.")
    keyboard.press("Escape")
    expect(ada.page.locator("#people-empty")).to_be_hidden()
    go_to(".tile[data-state='offline']")
    keyboard.press("Enter")
    expect(ada.page.locator(".tile[data-state='offline']")).to_have_attribute("aria-current", "true")
    go_to("#people-head th:nth-child(3) button")
    keyboard.press("Enter")
    expect(ada.page.locator("#people-head th:nth-child(3)")).to_have_attribute("aria-sort", "ascending")


@one_broker
def test_a_moved_row_keeps_the_focus(served: Served, somebody: Callable[..., Somebody]) -> None:
    """A focused row keeps the focus when the order changes."""
    ada = somebody(served, "ada-moves")
    ada.come("?q=mover-")
    ada.sign_in()
    with (
        Client(served.mqtt_port, "mover-1", "m1") as first,
        Client(served.mqtt_port, "mover-2", "m2") as second,
    ):
        for number, client in ((1, first), (2, second)):
            client.publish(f"presence/mover-{number}/m{number}/login", b'{"connectionId":"c"}')
        names = ada.page.locator("#people-rows .name bdi")
        expect(names).to_have_text(["mover-1", "mover-2"])
        ada.row("mover-1").locator("a").focus()
        first.publish("presence/mover-1/m1/activity", b'{"connectionId":"c","idle":true}')
        expect(names).to_have_text(["mover-2", "mover-1"])
        expect(ada.row("mover-1").locator("a")).to_be_focused()


@one_broker
def test_the_appearance_can_be_chosen(served: Served, somebody: Callable[..., Somebody]) -> None:
    """The button overrides the system's theme; the choice is stored, and can be undone."""
    ada = somebody(served, "ada", color_scheme="light")
    ada.come()
    root, button = ada.page.locator("html"), ada.page.locator("#theme")
    expect(root).to_have_attribute("data-theme", "light")
    button.click()
    expect(root).to_have_attribute("data-theme", "dark")
    ada.page.reload()
    expect(root).to_have_attribute("data-theme", "dark")
    button.click()
    expect(root).to_have_attribute("data-theme", "light")
    ada.page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-theme", "dark")
