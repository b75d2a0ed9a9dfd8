"""People first: links with filters, who left last, a person's page, the empty page, and looking without being there."""

import http.server
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Served, one_broker
from tests.support.browser import PageErrors, Somebody
from tests.support.mqtt import Client
from tests.support.recorder import Recorder
from tests.support.waiting import until


def login(client: Client, user: str, client_id: str, connection: str = "c1", agent: str = "pump/1.0") -> None:
    """Log a client in."""
    client.publish(
        f"presence/{user}/{client_id}/login",
        f'{{"connectionId":"{connection}","userAgent":"{agent}"}}'.encode(),
    )


# The list.


@one_broker
def test_a_link_has_the_filter_the_search_and_the_order(
    served: Served, somebody: Callable[..., Somebody]
) -> None:
    """`?state=offline&q=…&sort=…` is what the reader of the link sees; choices change the address."""
    ada = somebody(served, "ada-links")
    with Client(served.mqtt_port, "link-a", "a") as first, Client(served.mqtt_port, "link-b", "b") as second:
        login(first, "link-a", "a")
        login(second, "link-b", "b")
        login(second, "link-c", "b")
        ada.come("?q=link-&sort=-name#people")
        ada.sign_in()
        names = ada.page.locator("#people-rows .name bdi")
        expect(names).to_have_text(["link-b", "link-a"])
        first.publish("presence/link-a/a/logout", b'{"connectionId":"c1"}')
        ada.page.click(".tile[data-state='offline']")
        expect(names).to_have_text(["link-a"])
        expect(ada.page.locator(".tile strong")).to_have_text(["2", "1", "0", "1"])  # of the search
        expect(ada.page).to_have_url(f"{served.url}?q=link-&sort=-name&state=offline#people")
        ada.page.click(".tile[data-state='all']")
        expect(names).to_have_count(2)
        ada.page.go_back()
        expect(names).to_have_text(["link-a"])
        ada.page.fill("#search", "link-b")
        expect(ada.page.locator("#people-empty")).to_have_text("No offline user matches.")
        expect(ada.page).to_have_url(f"{served.url}?q=link-b&sort=-name&state=offline#people")
        ada.page.reload()
        expect(ada.page.locator("#search")).to_have_value("link-b")
        expect(ada.page.locator(".tile[data-state='offline']")).to_have_attribute("aria-current", "true")


@one_broker
def test_who_left_last_and_why(served: Served, somebody: Callable[..., Somebody]) -> None:
    """The page names them; an operator also sees the reason and the broker's cause."""
    ada = somebody(served, "ada-left")
    ada.come()
    ada.sign_in()
    left = ada.page.locator("#left-last")
    with Client(served.mqtt_port, "left-a", "a") as client:
        login(client, "left-a", "a")
        ada.sees("left-a", "online")
        client.publish("presence/left-a/a/logout", b'{"connectionId":"c1"}')
        ada.sees("left-a", "offline")
        expect(left.locator("span").first).to_contain_text("left-a just now, logout")


@one_broker
def test_a_persons_page(served: Served, somebody: Callable[..., Somebody]) -> None:
    """State, times, devices with their full names, addresses and agents, and the connections of a period."""
    client_id = "pump-house-controller-0123456789abcdef"
    ada = somebody(served, "ada-person")
    ada.come()
    ada.sign_in()
    with Client(served.mqtt_port, "pump", client_id) as client:
        login(client, "pump", client_id)
        ada.row("pump").locator("a").click()
        expect(ada.page.locator("#person-title")).to_be_focused()
        summary = ada.page.locator("#summary")
        for text in ("StateOnline", "Last seenactive now", "Connections1", "Online today", "Drops a day0.0"):
            expect(summary).to_contain_text(text)
        device = ada.page.locator("#devices tr")
        for text in (client_id, "127.0.0.1", "pump/1.0", "active now"):
            expect(device).to_contain_text(text)
        ada.page.click("#person .grid:has(#devices) th:nth-child(1) button")
        expect(ada.page).to_have_url(f"{served.url}?devices=client#person/pump")
        client.publish(f"presence/pump/{client_id}/will", b'{"connectionId":"c1"}')
        expect(device).to_contain_text("lost")
        expect(summary).to_contain_text("StateOffline")
        expect(summary).to_contain_text("Drops a day0.1")
        login(client, "pump", client_id, "c2")
        rows = ada.page.locator("#line-rows tr")
        expect(rows).to_have_count(2)
        expect(rows.first).to_contain_text("here")
        ada.page.click("#line-detail th:nth-child(5) button")
        expect(rows.last).to_contain_text("lost")
        ada.page.click("#ranges button:text-is('30 d')")
        expect(ada.page.locator("#person .head h3")).to_have_text("The last 30 days")
        expect(ada.page).to_have_url(f"{served.url}?devices=client&sort=state&range=30d#person/pump")
        ada.page.click("#range-free")
        ada.page.fill("#range-to", "2020-02-01T00:00")
        expect(ada.page.locator("#line-rows tr")).to_have_count(2)  # from then to the other moment
        ada.page.fill("#range-from", "2020-01-01T00:00")
        expect(ada.page.locator("#line-empty")).to_have_text("No connection in this period.")
        expect(device).to_contain_text("active now")  # whatever the period


@one_broker
def test_why_a_person_is_in_a_state(served: Served, somebody: Callable[..., Somebody]) -> None:
    """Each record has the rules that opened and ended it, and follows the next change."""
    ada = somebody(served, "ada-why")
    ada.come()
    ada.sign_in()
    with Client(served.mqtt_port, "fan", "attic") as client:
        login(client, "fan", "attic")
        ada.row("fan").locator("a").click()
        why = ada.page.locator("#why")
        expect(why.locator("li")).to_have_count(0)
        why.locator("summary").click()
        expect(why.locator("h4")).to_have_text("attic open")
        expect(why.locator("li").first).to_contain_text("Opened by L1: a login")
        client.publish("presence/fan/attic/will", b'{"connectionId":"c1"}')
        expect(why.locator("h4")).to_have_text("attic ended")
        expect(why.locator("li").nth(1)).to_contain_text("Ended by E1: a will (lost)")


def test_the_title_of_a_hidden_tab_counts(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """The tab's title has the number of users here, also while the browser draws no frame of the page."""
    own = serve_one("embedded")
    ada = somebody(own, "ada")
    ada.come()
    ada.sign_in()
    expect(ada.page).to_have_title(re.compile("^1 here"))
    ada.page.evaluate("window.requestAnimationFrame = () => 0")
    with Client(own.mqtt_port, "bob", "bob-1") as client:
        login(client, "bob", "bob-1")
        expect(ada.page).to_have_title(re.compile("^2 here"))


# Looking.


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
def test_who_only_looks_is_not_there(
    kind: str, serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """No status and no record, before and after a reload; the others are seen live."""
    served = serve_one(kind)
    recorder = Recorder(served.mqtt_port, ("status/#",), user="audit", log=served.page.log)
    try:
        ada = somebody(served, "")
        ada.come()
        if kind == "mosquitto":  # whether it needs a name is unknown
            ada.page.fill("#name", "ada")
        ada.page.click("#look")
        expect(ada.page.locator("#link-text")).to_have_text("Live")
        expect(ada.page.locator("#looking")).to_be_visible()
        expect(ada.page.locator("#people-empty")).to_have_text("No users yet.")
        with Client(served.mqtt_port, "bob", "bob-1") as client:
            login(client, "bob", "bob-1")
            ada.sees("bob", "online")
            ada.page.reload()
            expect(ada.page.locator("#looking")).to_be_visible()
            ada.sees("bob", "online")
            expect(ada.page.locator("#people-rows tr")).to_have_count(1)
            ada.page.click("#sign-out")
            ada.page.reload()
            expect(ada.page.locator("#look")).to_be_visible()
            client.publish("presence/bob/bob-1/logout", b'{"connectionId":"c1"}')
        recorder.wait_for_state("bob", "offline")
        assert set(recorder.statuses()) == {"bob"}
        assert {user["userId"] for user in served.page.api("users").json["users"]} == {"bob"}
    finally:
        recorder.close()


def test_a_reload_with_a_password_asks_again(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """The browser keeps no password, and no name that has one."""
    served = serve_one("embedded", users={"alice": "alice-secret"})
    alice = somebody(served, "alice")
    alice.come()
    alice.sign_in("alice-secret")
    assert alice.page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])") == "[{},{}]"
    alice.page.reload()
    expect(alice.page.locator("#password")).to_be_visible()
    alice.page.fill("#name", "alice")
    alice.page.fill("#password", "alice-secret")
    alice.page.click("#look")
    expect(alice.page.locator("#looking")).to_be_visible()
    alice.sees("alice", "offline")


# Locked views, and an empty page.


def test_a_locked_view_says_why_and_how(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """With passwords and without an operator, the page names the settings that open it."""
    served = serve_one("embedded", users={"alice": "alice-secret"})
    alice = somebody(served, "alice")
    alice.come("#history")
    alice.sign_in("alice-secret")
    locked = alice.page.locator("#locked")
    for text in ("only operators see them", "web_token", "--operator alice"):
        expect(locked).to_contain_text(text)
    alice.page.click("#views a[href$='#people']")
    alice.row("alice").locator("a").click()
    expect(alice.page.locator("#summary")).to_contain_text("active now")
    expect(locked).to_be_visible()
    alice.page.click("#views a[href$='#connections']")
    expect(alice.page.locator("#connections-title")).to_be_focused()
    expect(locked).to_be_visible()


def test_an_empty_page_shows_how_to_bring_the_first_device(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody]
) -> None:
    """The command as shown makes a device online, and its end makes it offline."""
    served = serve_one("embedded", "--prefix", "acme/")
    ada = somebody(served, "ada")
    ada.come()
    ada.sign_in()
    shown = ada.page.locator("#first-device code").first.inner_text()
    device = subprocess.Popen(["bash", "-c", shown], stdin=subprocess.PIPE)
    try:
        ada.sees("lamp", "online")
        expect(ada.page.locator("#first-device")).to_have_count(0)
        assert device.stdin is not None
        device.stdin.close()
        ada.sees("lamp", "offline")
    finally:
        device.kill()
        device.wait(10)


# Frames.


@contextmanager
def dashboard(inside: str) -> Iterator[str]:
    """Serve a page of another origin that shows a page in a frame; yield its address."""

    class Dashboard(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<title>Dashboard</title><iframe width=900 height=600 src='{inside}'></iframe>".encode()
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_only_a_listed_page_may_show_the_page_in_a_frame(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody], page_errors: PageErrors
) -> None:
    """A dashboard shows the page where the setting names its origin, and works there; others show nothing."""
    page_errors.allow("frame-ancestors|chrome-error|favicon|404")
    with ExitStack() as stack:
        listed = stack.enter_context(dashboard("about:blank"))
        served = serve_one("embedded", "--web-frame-ancestors", listed)
        ada = somebody(served, "ada")
        ada.page.goto(listed)
        ada.page.evaluate("(url) => document.querySelector('iframe').src = url", served.url)
        inside = ada.page.frame_locator("iframe")
        inside.locator("#name").fill("ada")
        inside.locator("#enter").click()
        expect(inside.locator("#link-text")).to_have_text("Live")
        other = stack.enter_context(dashboard(served.url))
        bob = somebody(served, "bob")
        bob.page.goto(other)
        until(
            lambda: any("frame-ancestors" in text for text in page_errors.errors),
            "the browser refuses the frame",
        )
        expect(bob.page.frame_locator("iframe").locator("#page")).to_have_count(0)
