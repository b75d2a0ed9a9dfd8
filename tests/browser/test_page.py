"""Messages and views of the page: login, hostile names, operators, lost connections and many users."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Request, Route, expect

from tests.browser.conftest import Served, one_broker, run_beside, serve
from tests.support.browser import PageErrors, Somebody
from tests.support.mqtt import Client
from tests.support.web import basic

HOSTILE = [
    '<img src=x onerror="alert(1)">',
    "<script>alert(1)<!script>",
    "e\u202evil\u200b",
    "' onmouseover='a",
    "{{7*7}}",
]
"""No `/`: no topic has it."""
SHOWN = [*HOSTILE[:2], "e\\u202evil\\u200b", *HOSTILE[3:]]


# Login.


@one_broker
def test_an_invalid_name_is_refused_at_the_login(served: Served, somebody: Callable[..., Somebody]) -> None:
    """The page shows the reason, and accepts another name."""
    alice = somebody(served, "a/b")
    alice.come()
    alice.try_to_sign_in()
    expect(alice.page.locator("#sign-in-error")).to_contain_text('The name "a/b" must be')
    alice.name = "alice-door"
    alice.sign_in()


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
def test_a_wrong_password_is_reported(
    kind: str, serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """The page reports a wrong password; the right one is accepted and forgotten at once.

    The page's own server, which takes none here, is not shown it.
    """
    served = serve_one(kind, users={"alice": "alice-secret"})
    alice = somebody(served, "alice")
    told = credentials(alice)
    alice.come()
    alice.try_to_sign_in("wrong")
    expect(alice.page.locator("#sign-in-error")).to_contain_text("does not know this name with this password")
    expect(alice.page.locator("#password")).to_be_focused()
    with alice.page.expect_response("**/api/v1/config"):  # whether alice is an operator
        alice.sign_in("alice-secret")
    alice.sees("alice", "online")
    expect(alice.page.locator("#password")).to_have_count(0)
    assert told == [None, None]


def credentials(somebody: Somebody) -> list[str | None]:
    """Listen to what the page shows of who it is, whenever it asks its server."""
    shown: list[str | None] = []

    def hear(request: Request) -> None:
        if "/api/" in request.url:
            shown.append(request.headers.get("authorization"))

    somebody.page.on("request", hear)
    return shown


@one_broker
def test_without_mqtt_js_the_page_shows_the_remedy(served: Served, somebody: Callable[..., Somebody]) -> None:
    """A build without npm has no MQTT.js; the page shows that, and disables the login."""
    alice = somebody(served, "alice")

    def without(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"mqttJs": False})

    alice.page.route("**/api/v1/config", without)
    alice.come()
    expect(alice.page.locator("#sign-in-error")).to_contain_text("npm")
    expect(alice.page.locator("#enter")).to_be_disabled()


# Hostile texts.


def test_hostile_names_are_text(served: Served, somebody: Callable[..., Somebody]) -> None:
    """Markup in a name is shown as text, invisible characters are escaped, and no script runs."""
    alice = somebody(served, "alice-hostile")
    alice.page.on("dialog", lambda _: pytest.fail("a name has run"))
    alice.come()
    alice.sign_in()
    with ExitStack() as stack:
        for number, name in enumerate(HOSTILE):
            client = stack.enter_context(Client(served.mqtt_port, name, f"hostile-{number}"))
            agent = f'{{"userAgent":"<b>{number}</b>"}}'.encode()
            client.publish(f"presence/{name}/hostile-{number}/login", agent)
        for name in SHOWN:
            expect(alice.row(name).locator(".state")).to_have_text("Online")
        for fragment, rows in (("connections", "#connections-rows tr"), ("history", "#lines > li")):
            alice.page.evaluate(f"location.hash = {fragment!r}")
            for raw, name in zip(HOSTILE, SHOWN, strict=True):
                alice.page.fill(f"#{fragment}-search", raw)
                found = alice.page.locator(rows).filter(has=alice.page.get_by_text(name, exact=True))
                expect(found.first).to_be_visible()
        expect(alice.page.locator("main img, main script, main b")).to_have_count(0)


# Operators.


def test_operators_see_connections_and_history(served: Served, somebody: Callable[..., Somebody]) -> None:
    """Without a token, visitors on this machine see open and ended connections and the last day."""
    alice = somebody(served, "alice-op")
    alice.come()
    alice.sign_in()
    with Client(served.mqtt_port, "phone-op", "phone-1") as phone:
        phone.publish("presence/phone-op/phone-1/login", b'{"connectionId":"c1","userAgent":"test phone 1"}')
        alice.row("alice-op").locator("a").click()
        expect(alice.page.locator("#lines .span")).to_have_attribute("data-state", "online")
        alice.page.click("#views a[href$='#connections']")
        expect(alice.page.locator("#connections-title")).to_be_focused()
        alice.page.fill("#connections-search", "phone-op")
        row = alice.page.locator("#connections-rows tr")
        expect(row).to_have_count(1)
        for text in ("phone-op", "phone-1", "c1", "test phone 1"):
            expect(row).to_contain_text(text)
        phone.publish("presence/phone-op/phone-1/logout", b'{"connectionId":"c1"}')
    expect(row).to_have_count(0)
    alice.page.check("#ended")
    expect(row).to_contain_text("logout")
    row.locator("a").click()
    expect(alice.page.locator("#person-title bdi")).to_have_text("phone-op")
    expect(alice.page.locator("#devices tr")).to_contain_text("test phone 1")
    expect(alice.page.locator("#lines .span")).to_have_attribute("data-state", "ended")
    expect(alice.page.locator("#line-rows tr")).to_contain_text("logout")
    alice.page.click("#views a[href$='#history']")
    alice.page.fill("#history-search", "alice-op")
    expect(alice.page.locator("#lines > li")).to_have_count(1)
    expect(alice.page.locator("#lines .span[data-state='online']")).to_have_count(1)


def test_only_operators_see_them(serve_one: Callable[..., Served], somebody: Callable[..., Somebody]) -> None:
    """With passwords, the setting names the operators; other users see the list of users only."""
    users = {"alice": "alice-secret", "bob": "bob-secret"}
    served = serve_one("embedded", "--operator", "alice", users=users)
    alice, bob = somebody(served, "alice"), somebody(served, "bob")
    told = credentials(alice)
    alice.come("#connections")
    alice.sign_in(users["alice"])
    expect(alice.page.locator("#connections-rows tr")).to_contain_text("alice")
    assert told[-1] == basic("alice", users["alice"])["authorization"]
    bob.come()
    bob.sign_in(users["bob"])
    bob.sees("alice", "online")
    bob.page.click("#views a[href$='#connections']")
    expect(bob.page.locator("#other-user")).to_contain_text("You are bob, who is no operator here.")
    expect(bob.page.locator("#views")).to_contain_text("Connections (locked)")
    assert served.page.api("connections", headers=basic("bob", users["bob"])).status == 403


def test_the_token_makes_an_operator(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """The locked view asks for the server's token; a wrong one is refused."""
    token = "a-token-of-the-tests"
    served = serve_one("embedded", "--web-token", token)
    alice = somebody(served, "alice")
    alice.come()
    alice.sign_in()
    alice.page.click("#views a[href$='#connections']")
    alice.page.fill("#token", "another-token-of-16")
    alice.page.press("#token", "Enter")
    expect(alice.page.locator("#token-error")).to_have_text("This is not the token.")
    alice.page.fill("#token", token)
    alice.page.press("#token", "Enter")
    expect(alice.page.locator("#locked")).to_have_count(0)
    expect(alice.page.locator("#connections-rows tr")).to_contain_text("alice")


@one_broker
def test_whether_one_is_an_operator_is_asked_until_it_is_answered(
    served: Served, somebody: Callable[..., Somebody], page_errors: PageErrors
) -> None:
    """The page repeats a request without an answer, and follows a changed decision."""
    page_errors.allow("ERR_FAILED|403")
    alice = somebody(served, "alice-late")
    alice.page.clock.install()
    alice.come("#connections")
    alice.page.route("**/api/v1/config", lambda route: route.abort(), times=1)
    with alice.page.expect_event("requestfailed"):
        alice.sign_in()
    expect(alice.page.locator("#connections")).to_contain_text("Asking the server for your rights")
    alice.page.clock.fast_forward(3_000)
    expect(alice.page.locator("#connections-rows tr").first).to_be_visible()

    def no_operator(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"operator": False, "operatorBy": ["token"]})

    alice.page.route("**/api/v1/config", no_operator)
    alice.page.route(
        "**/api/v1/connections?*", lambda route: route.fulfill(status=403, json={"detail": "no"})
    )
    alice.page.check("#ended")
    expect(alice.page.locator("#locked")).to_be_visible()
    expect(alice.page.locator("#token")).to_be_visible()


@one_broker
def test_a_forgotten_user_has_an_empty_line(
    served: Served, somebody: Callable[..., Somebody], page_errors: PageErrors
) -> None:
    """The other users are shown although the server does not know one."""
    page_errors.allow("404")
    alice = somebody(served, "alice-line")
    alice.come("#history")

    def with_ghost(route: Route) -> None:
        answer = route.fetch()
        said = answer.json()
        route.fulfill(response=answer, json=said | {"users": [{"userId": "a-ghost"}, *said["users"]]})

    alice.page.route("**/api/v1/users?*", with_ghost)
    alice.sign_in()
    ghost = alice.page.locator("#lines > li").filter(has=alice.page.get_by_text("a-ghost", exact=True))
    expect(ghost.locator(".track:not([aria-busy])")).to_be_attached()
    mine = alice.page.locator("#lines > li").filter(has=alice.page.get_by_text("alice-line", exact=True))
    expect(mine.locator(".span[data-state='online']")).to_be_visible()
    expect(alice.page.locator(".track[aria-busy]")).to_have_count(0)
    expect(alice.page.locator("#history-error")).to_be_empty()
    alice.page.evaluate("location.hash = 'person/a-ghost'")
    expect(alice.page.locator("#person-error")).to_contain_text("there is no user a-ghost")


# Lost connections.


@one_broker
def test_a_server_without_answers_is_reported(
    served: Served, somebody: Callable[..., Somebody], page_errors: PageErrors
) -> None:
    """The users stay live; connections and history keep the time of the last answer."""
    page_errors.allow("ERR_FAILED")
    alice = somebody(served, "alice-alone")
    alice.page.clock.install()
    alice.come("#connections")
    alice.sign_in()
    row = alice.page.locator("#connections-rows tr").filter(has_text="alice-alone")
    for view, shown in (("connections", row), ("history", alice.page.locator("#lines .span").first)):
        alice.page.evaluate(f"location.hash = {view!r}")
        expect(shown).to_be_visible()
        alice.page.route("**/api/v1/*", lambda route: route.abort())
        alice.page.evaluate("location.hash = 'people'")
        expect(alice.page.locator("#people")).to_be_visible()
        expect(alice.page.locator("#people")).not_to_have_attribute("data-stale", "")
        alice.page.evaluate(f"location.hash = {view!r}")
        expect(alice.page.locator(f"#{view}-error")).to_have_text("The server does not answer.")
        expect(alice.page.locator(f"#{view}")).to_have_attribute("data-stale", "")
        expect(alice.page.locator(f"#{view}-as-of")).to_contain_text("as of")
        expect(shown).to_be_visible()
        alice.page.unroute("**/api/v1/*")
        alice.page.clock.fast_forward(3_000)
        expect(alice.page.locator(f"#{view}")).not_to_have_attribute("data-stale", "")
        expect(alice.page.locator(f"#{view}-error")).to_be_empty()


def test_an_absent_bridge_and_broker_are_reported(
    somebody: Callable[..., Somebody], page_errors: PageErrors, tmp_path: Path
) -> None:
    """Meanwhile the page marks the statuses as old."""
    page_errors.allow(r"WebSocket connection to .* failed|ERR_CONNECTION_REFUSED")
    with ExitStack() as stack:
        served = serve("mosquitto", tmp_path, stack)
        assert served.mosquitto is not None
        alice = somebody(served, "alice")
        alice.come()
        alice.sign_in()
        alice.sees("alice", "online")
        people = alice.page.locator("#people")
        views = {
            "connections": alice.page.locator("#connections-rows tr[data-state='online']"),
            "history": alice.page.locator("#lines .span[data-state='online']"),
        }
        for view, shown in views.items():
            alice.page.click(f"#views a[href$='#{view}']")
            expect(shown).to_be_visible()
        assert served.page.stop() == 0
        alice.notices("The bridge is offline")
        expect(alice.page.locator("#history-as-of")).to_contain_text("as of")
        width = views["history"].evaluate(_WIDTH)
        for view, shown in views.items():
            alice.page.click(f"#views a[href$='#{view}']")
            expect(alice.page.locator(f"#{view}")).to_have_attribute("data-stale", "")
            expect(alice.page.locator(f"#{view}-as-of")).to_contain_text("as of")
            expect(shown).to_be_visible()  # still
        assert views["history"].evaluate(_WIDTH) == width
        alice.page.click("#views a[href$='#people']")
        expect(people).to_have_attribute("data-stale", "")
        expect(alice.page.locator("#as-of")).to_contain_text("as of")
        stack.enter_context(run_beside(served.mosquitto, served.ws_port, tmp_path))
        alice.notices("")
        expect(people).not_to_have_attribute("data-stale", "")
        served.mosquitto.stop()
        alice.notices("The connection to the broker is lost")
        alice.is_shown("offline")
        expect(people).to_have_attribute("data-stale", "")
        alice.row("alice").locator(".state").wait_for()  # still shown
        served.mosquitto.start()
        alice.notices("")
        expect(people).not_to_have_attribute("data-stale", "")
        alice.is_shown("online")


_WIDTH = "(bar) => bar.style.getPropertyValue('--width')"


# Many.


# On mosquitto without access rules, one connection can publish for all users.
def test_two_thousand_users_do_not_freeze_the_page(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """The page shows a hundred and the rest on demand, searches all, and never blocks for long."""
    served = serve_one("mosquitto")
    alice = somebody(served, "alice-many")
    alice.come()
    alice.sign_in()
    alice.page.evaluate(_MEASURE)
    alice.sees("alice-many", "online")
    tile = alice.page.locator(".tile[data-state='all'] strong")
    before = int(tile.inner_text().replace(",", ""))
    with Client(served.mqtt_port, "many", "many") as client:
        client.publish_all((f"presence/crowd-{n}/c{n}/login", b"") for n in range(2_000))
        expect(tile).to_have_text(f"{before + 2_000:,}")
        client.publish_all((f"presence/crowd-{n}/c{n}/activity", b'{"idle":true}') for n in range(2_000))
        expect(alice.page.locator(".tile[data-state='idle'] strong")).to_have_text("2,000")
        alice.page.click(".tile[data-state='idle']")
        rows = alice.page.locator("#people-rows tr")
        expect(rows).to_have_count(100)
        alice.page.click("#people-more")
        expect(rows).to_have_count(200)
        alice.page.fill("#search", "CROWD-1999")
        alice.sees("crowd-1999", "idle")
        expect(rows).to_have_count(1)
        alice.page.click("#views a[href$='#connections']")
        alice.page.fill("#connections-search", "crowd-1200")
        expect(alice.page.locator("#connections-empty")).to_have_text("No match among the first 200.")
        expect(alice.page.locator("#connections-rows tr")).to_have_count(0)
        alice.page.click("#connections-more")
        expect(alice.page.locator("#connections-rows tr")).to_contain_text("crowd-1200")
        alice.page.click("#views a[href$='#people']")
        client.publish_all((f"presence/crowd-{n}/c{n}/logout", b"") for n in range(2_000))
        expect(alice.page.locator("#people-empty")).to_have_text("No idle user matches.")
    assert alice.page.evaluate("window.longest") < 1_000


_MEASURE = """() => {
  window.longest = 0;
  new PerformanceObserver((list) => {
    for (const {duration} of list.getEntries()) window.longest = Math.max(window.longest, duration);
  }).observe({type: "longtask", buffered: true});
}"""
