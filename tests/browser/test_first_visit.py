"""The first visit: few requests and few bytes, and the same page without a bundle."""

from collections.abc import Callable

from playwright.sync_api import Request, Route, expect

from tests.browser.conftest import Served, one_broker
from tests.support.browser import Somebody

MOST_REQUESTS = 15
MOST_BYTES = 250_000


@one_broker
def test_the_first_visit_is_small(served: Served, somebody: Callable[..., Somebody]) -> None:
    """From the empty cache to the list of users: at most 15 requests and 250 kB, as sent."""
    ada = somebody(served, "ada-first")
    done: list[Request] = []

    def finished(request: Request) -> None:
        done.append(request)

    ada.page.on("requestfinished", finished)
    ada.come()
    ada.sign_in()
    ada.sees("ada-first", "online")
    ada.page.wait_for_load_state("networkidle")
    sizes = {request.url: request.sizes()["responseBodySize"] for request in done}
    assert any("mqtt.esm.js" in url for url in sizes)
    assert len(done) <= MOST_REQUESTS, [request.url for request in done]
    assert sum(sizes.values()) <= MOST_BYTES, sizes


@one_broker
def test_without_a_bundle_the_modules_are_served(served: Served, somebody: Callable[..., Somebody]) -> None:
    """As in a checkout after a change of a module."""
    ada = somebody(served, "ada-modules")

    def with_modules(route: Route) -> None:
        route.fulfill(content_type="text/javascript", body='import "../page/main.js";')

    ada.page.route("**/static/built/page.js", with_modules)
    with ada.page.expect_request("**/static/page/main.js"):
        ada.come()
    ada.sign_in()
    ada.sees("ada-modules", "online")
    expect(ada.page.locator("#version")).to_contain_text("mqtt-presence")
