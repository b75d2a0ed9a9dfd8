"""The page at 390 px: no content is wider than the page."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Served, serve
from tests.support.browser import PageErrors, Somebody
from tests.support.mqtt import Client
from tests.support.people import status

PHONE = {"width": 390, "height": 844}
CLIENT = "sim-bac599-" + "0123456789abcdef" * 7
"""A client id of 123 characters without a break opportunity."""
_OVERFLOWING = """() => {
  const right = document.documentElement.clientWidth;
  const isMeant = (e) => e.clientWidth <= 1 || e.closest("svg, .unseen, .skip, .avatar, .track, .hours")
    || getComputedStyle(e).textOverflow === "ellipsis";
  const isWide = (e) => getComputedStyle(e).display !== "inline" && e.scrollWidth > e.clientWidth + 1;
  const isOutside = (e) => e.getBoundingClientRect().right > right + 1;
  return [...document.querySelectorAll("body *")]
    .filter((e) => e.checkVisibility() && !isMeant(e) && (isWide(e) || isOutside(e)))
    .map((e) => `${e.outerHTML.slice(0, 120)} ${e.scrollWidth}/${e.clientWidth} ${e.getBoundingClientRect().right}/${right}`);
}"""


def overflowing(page: Page) -> list[str]:
    """Return the elements whose content is wider than they are, but for texts that are cut with an ellipsis."""
    root = page.locator("html")
    found = page.evaluate(_OVERFLOWING)
    if root.evaluate("(e) => e.scrollWidth > e.clientWidth"):
        found.append("the page itself")
    return found


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a page with users in five digits; on mosquitto, which lets us write their statuses."""
    with ExitStack() as stack:
        served = serve("mosquitto", tmp_path_factory.mktemp("city"), stack)
        with Client(served.mqtt_port, "painter", "painter") as painter:
            users = [(f"online-{number}", "online") for number in range(10_100)]
            users += [(f"idle-{number}", "idle") for number in range(1_200)]
            for start in range(0, len(users), 500):
                painter.publish_all([status(*user) for user in users[start : start + 500]], retain=True)
        yield served


def test_counts_of_five_digits_fit(
    city: Served, somebody: Callable[..., Somebody], page_errors: PageErrors
) -> None:
    """The tiles, on a phone, on a narrow window and on a wide one; on a phone also without a broker."""
    ada = somebody(city, "ada", viewport=PHONE)
    ada.come()
    ada.sign_in()
    expect(ada.page.locator(".tile[data-state='online'] strong")).to_have_text("10,101")
    for width in (320, 390, 500, 600, 700, 1000, 1280):
        ada.page.set_viewport_size({"width": width, "height": 844})
        assert overflowing(ada.page) == [], width
    ada.page.set_viewport_size(PHONE)
    assert city.mosquitto is not None
    page_errors.allow("WebSocket|Failed to load|ERR_")
    city.mosquitto.stop()  # no other test uses it
    expect(ada.page.locator("#link-text")).to_have_text("No broker")
    expect(ada.page.locator(".tile[data-state='online'] strong")).to_have_text("10,101")
    assert overflowing(ada.page) == []
    assert in_one_row(ada.page)


@pytest.mark.parametrize("width", [320, 390, 640])
@pytest.mark.parametrize("count", ["1,234", "99,999", "999,999", "1,234,567"])
def test_no_count_is_wider_than_its_tile(
    count: str, width: int, crowded: Served, somebody: Callable[..., Somebody]
) -> None:
    """As many users as the limit allows, and more; the number is written by the page's own code."""
    ada = somebody(crowded, "ada", viewport={"width": width, "height": 844})
    ada.page.add_init_script(
        f"Number.prototype.toLocaleString = () => {count!r};"  # what the page writes for any count
    )
    ada.come()
    ada.sign_in()
    expect(ada.page.locator(".tile strong").first).to_have_text(count)
    assert overflowing(ada.page) == []


def test_nothing_is_wider_than_a_phone(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """The login and each view fit, with long names of users, clients, connections and user agents."""
    served = serve_one("embedded")
    user = "u" * 128
    ada = somebody(served, "ada", viewport=PHONE)
    ada.come()
    assert overflowing(ada.page) == []
    with Client(served.mqtt_port, user, CLIENT) as client:
        login = f'{{"connectionId":"{"c" * 64}","userAgent":"{"a" * 200}"}}'
        client.publish(f"presence/{user}/{CLIENT}/login", login.encode())
        ada.sign_in()
        ada.sees(user, "online")
        assert overflowing(ada.page) == []
        for fragment, sign in (
            ("#connections", "#connections-rows tr"),
            ("#history", "#lines .span"),
            (f"#person/{user}", "#line-rows tr"),
        ):
            ada.page.evaluate(f"location.hash = {fragment!r}")
            expect(ada.page.locator(sign).first).to_be_visible()
            assert overflowing(ada.page) == [], fragment


@pytest.mark.parametrize("width", [320, 390, 800, 1280])
def test_a_persons_page_shows_the_client_in_full(
    width: int, serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """A client id wraps: no part of it is cut, with an ellipsis or without."""
    served = serve_one("embedded")
    ada = somebody(served, "ada", viewport={"width": width, "height": 844})
    ada.come("#person/device")
    with Client(served.mqtt_port, "device", CLIENT) as client:
        client.publish(f"presence/device/{CLIENT}/login", b"{}")
        ada.sign_in()
        cell = ada.page.locator("#line-rows tr").first.locator("th bdi")
        expect(cell).to_have_text(CLIENT)
        box = cell.evaluate(
            """(e) => {
              const range = document.createRange();
              range.selectNodeContents(e);
              const text = range.getBoundingClientRect(), cell = e.closest("th").getBoundingClientRect();
              return {right: text.right - cell.right, cut: e.scrollWidth - e.clientWidth,
                overflow: getComputedStyle(e).overflow, shown: getComputedStyle(e).textOverflow};
            }"""
        )
        assert box["right"] <= 1, box
        assert (box["overflow"], box["shown"]) == ("visible", "clip"), box
        assert overflowing(ada.page) == []


def in_one_row(page: Page) -> bool:
    """Return whether the header's name, state and buttons stand in one row."""
    return page.evaluate(
        """() => {
          const parts = [...document.querySelectorAll(".bar > *")].filter((e) => e.checkVisibility() && !e.matches(".views, .skip"));
          const middles = parts.map((e) => e.getBoundingClientRect()).map(({top, bottom}) => (top + bottom) / 2);
          return Math.max(...middles) - Math.min(...middles) < 4
            && document.querySelector("#link").getBoundingClientRect().height < 40;
        }"""
    )


def test_no_broker_fits_into_the_header(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody], page_errors: PageErrors
) -> None:
    """The header keeps one row with one's own name, for each state of the connection."""
    page_errors.allow("WebSocket|Failed to load|ERR_")
    served = serve_one("mosquitto", "--web-token", "a-token-of-the-tests")
    ada = somebody(served, "ada", viewport=PHONE)
    ada.come()
    ada.sign_in()
    expect(ada.page.locator("#own")).to_be_visible()
    assert in_one_row(ada.page)
    assert served.mosquitto is not None
    served.mosquitto.stop()
    expect(ada.page.locator("#link-text")).to_have_text("No broker")
    assert in_one_row(ada.page)
    assert overflowing(ada.page) == []
    words = (Path(__file__).parents[2] / "mqtt_presence/web/static/page/texts.js").read_text("utf-8")
    for word in ("Signed off", "Not allowed", "Catching up", "Connecting", "No bridge"):
        assert f'"{word}"' in words
        ada.page.locator("#link-text").evaluate("(e, word) => (e.textContent = word)", word)
        assert in_one_row(ada.page), word


# Messages of the server.


def test_long_errors_wrap(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody], page_errors: PageErrors
) -> None:
    """The server's message fits in each view that shows one."""
    page_errors.allow("503")
    served = serve_one("embedded")
    ada = somebody(served, "ada", viewport=PHONE)

    def refuse(route: Route) -> None:
        route.fulfill(status=503, json={"detail": "x" * 300})

    ada.page.route("**/api/v1/connections?*", refuse)
    ada.page.route("**/api/v1/users?*", refuse)
    ada.come()
    ada.sign_in()
    for view in ("connections", "history"):
        ada.page.click(f"#views a[href$='#{view}']")
        expect(ada.page.locator(f"#{view}-error")).not_to_be_empty()
        assert overflowing(ada.page) == [], view
