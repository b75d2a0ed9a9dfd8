"""The focus moves to a near element when the focused one is removed, hidden or disabled."""

from collections.abc import Callable

from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Served, one_broker
from tests.support.browser import PageErrors, Somebody
from tests.support.mqtt import Client


def focused(page: Page) -> str:
    """Return the id of the focused element, or its tag."""
    return page.evaluate("document.activeElement.id || document.activeElement.tagName")


@one_broker
def test_sign_in_and_sign_out_move_the_focus(served: Served, somebody: Callable[..., Somebody]) -> None:
    """The focus moves to the view, and back to the name, by keyboard and by mouse."""
    ada = somebody(served, "ada-focus")
    ada.come()
    expect(ada.page.locator("#name")).to_be_focused()
    ada.page.keyboard.type("ada-focus")
    ada.page.keyboard.press("Enter")
    expect(ada.page.locator("#people-title")).to_be_focused()
    ada.page.locator("#sign-out").focus()
    ada.page.keyboard.press("Enter")
    expect(ada.page.locator("#name")).to_be_focused()
    ada.page.click("#enter")
    expect(ada.page.locator("#people-title")).to_be_focused()
    ada.page.click("#sign-out")
    expect(ada.page.locator("#name")).to_be_focused()


@one_broker
def test_sign_in_at_another_view_moves_the_focus_there(
    served: Served, somebody: Callable[..., Somebody]
) -> None:
    """The title has the focus, also when the server confirms the operator later."""
    for view in ("connections", "history"):
        ada = somebody(served, "ada-view")
        ada.come(f"#{view}")
        ada.sign_in()
        expect(ada.page.locator(f"#{view}-title")).to_be_focused()
        for other in ("people", "history", "connections"):
            ada.page.click(f"#views a[href$='#{other}']")
            expect(ada.page.locator(f"#{other}-title")).to_be_focused()


def test_the_token_moves_the_focus_to_the_view(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """The form is gone after the token, and the view's title has the focus."""
    served = serve_one("embedded", "--web-token", "a-token-of-the-tests")
    ada = somebody(served, "ada")
    ada.come()
    ada.sign_in()
    ada.page.click("#views a[href$='#connections']")
    ada.page.fill("#token", "a-token-of-the-tests")
    ada.page.press("#token", "Enter")
    expect(ada.page.locator("#connections-rows tr")).to_contain_text("ada")
    expect(ada.page.locator("#connections-title")).to_be_focused()


@one_broker
def test_the_focus_stays_when_operator_rights_end(
    served: Served, somebody: Callable[..., Somebody], page_errors: PageErrors
) -> None:
    """The operator's view is locked, and shows the reason."""
    page_errors.allow("403")
    ada = somebody(served, "ada-no-more")
    ada.come("#connections")
    ada.sign_in()
    expect(ada.page.locator("#connections-title")).to_be_focused()

    def no_operator(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"operator": False, "operatorBy": []})

    ada.page.route("**/api/v1/config", no_operator)
    ada.page.route("**/api/v1/connections?*", lambda route: route.fulfill(status=403, json={"detail": "no"}))
    ada.page.locator("#ended").focus()
    ada.page.keyboard.press("Space")
    expect(ada.page.locator("#locked")).to_be_visible()
    expect(ada.page.locator("#connections-title")).to_be_focused()


@one_broker
def test_a_removed_row_passes_its_focus_on(served: Served, somebody: Callable[..., Somebody]) -> None:
    """When a focused connection ends, the next row gets the focus; after the last row, the title."""
    ada = somebody(served, "ada-rows")
    ada.come("#connections")
    with (
        Client(served.mqtt_port, "row-a", "row-a") as first,
        Client(served.mqtt_port, "row-b", "row-b") as second,
    ):
        for name, client in (("row-a", first), ("row-b", second)):
            client.publish(f"presence/{name}/{name}/login", b'{"connectionId":"c"}')
        ada.sign_in()
        ada.page.fill("#connections-search", "row-")
        links = ada.page.locator("#connections-rows a")
        expect(links).to_have_count(2)
        links.first.focus()
        gone = links.first.inner_text()
        client = first if gone == "row-a" else second
        client.publish(f"presence/{gone}/{gone}/logout", b'{"connectionId":"c"}')
        expect(links).to_have_count(1)
        expect(links).to_be_focused()
        left = links.inner_text()
        client = first if left == "row-a" else second
        client.publish(f"presence/{left}/{left}/logout", b'{"connectionId":"c"}')
        expect(links).to_have_count(0)
        expect(ada.page.locator("#connections-title")).to_be_focused()


@one_broker
def test_a_disabled_field_passes_its_focus_on(served: Served, somebody: Callable[..., Somebody]) -> None:
    """Enter in the threshold starts the monitor and disables the field; the stop button gets the focus."""
    ada = somebody(served, "ada-monitor", viewport={"width": 1280, "height": 800})
    ada.come()
    ada.sign_in()
    ada.page.click("#own")
    expect(ada.page.locator("#start-stop")).to_have_text("Stop")
    ada.page.click("#start-stop")
    ada.page.focus("#threshold")
    ada.page.keyboard.press("Enter")
    expect(ada.page.locator("#threshold")).to_be_disabled()
    expect(ada.page.locator("#start-stop")).to_be_focused()


@one_broker
def test_the_show_more_button_passes_its_focus_on(served: Served, somebody: Callable[..., Somebody]) -> None:
    """The button disappears with the last rows, and a row before it gets the focus."""
    ada = somebody(served, "ada-more")

    def many(route: Route) -> None:
        answer = route.fetch()
        record = answer.json()["connections"][0]
        records = [record | {"clientId": f"client-{number}"} for number in range(150)]
        route.fulfill(response=answer, json=answer.json() | {"connections": records})

    ada.page.route("**/api/v1/connections?*", many)
    ada.come("#connections")
    ada.sign_in()
    more = ada.page.locator("#connections-more")
    expect(more).to_be_visible()
    more.focus()
    ada.page.keyboard.press("Enter")
    expect(ada.page.locator("#connections-rows tr")).to_have_count(150)
    expect(more).to_be_hidden()
    expect(ada.page.locator("#connections-rows tr:last-child a")).to_be_focused()


@one_broker
def test_a_click_on_the_background_removes_the_focus(
    served: Served, somebody: Callable[..., Somebody]
) -> None:
    """The focus does not come back when another element is hidden."""
    ada = somebody(served, "ada-away")
    ada.come()
    ada.sign_in()
    ada.page.focus("#search")
    ada.page.click(".foot")
    assert focused(ada.page) == "BODY"
    ada.page.evaluate("document.getElementById('search').disabled = true")
    ada.page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    assert focused(ada.page) == "BODY"


@one_broker
def test_shortcuts_of_the_keyboard(served: Served, somebody: Callable[..., Somebody]) -> None:
    """`/` focuses the search of the present view, but in a field it is text; the first Tab skips the header."""
    ada = somebody(served, "ada-keys-2")
    ada.come()
    ada.page.keyboard.type("a/b")
    expect(ada.page.locator("#name")).to_have_value("a/b")
    ada.sign_in()
    for view, search in (
        ("people", "search"),
        ("connections", "connections-search"),
        ("history", "history-search"),
    ):
        ada.page.click(f"#views a[href$='#{view}']")
        expect(ada.page.locator(f"#{view}-title")).to_be_focused()
        ada.page.keyboard.press("/")
        expect(ada.page.locator(f"#{search}")).to_be_focused()
        expect(ada.page.locator(f"#{search}")).to_have_value("")
        ada.page.keyboard.type("x/y")
        expect(ada.page.locator(f"#{search}")).to_have_value("x/y")
    ada.page.locator("#skip").focus()
    expect(ada.page.locator("#skip")).to_be_in_viewport()
    ada.page.keyboard.press("Enter")
    expect(ada.page.locator("#history-title")).to_be_focused()
