"""The history of a period: figures, a chart, CSV, and the end of a user's records."""

import csv
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Route, expect

from tests.browser.conftest import Served, one_broker
from tests.browser.test_people import login
from tests.support.browser import PageErrors, Somebody
from tests.support.mqtt import Client


def test_figures_of_a_period(serve_one: Callable[..., Served], somebody: Callable[..., Somebody]) -> None:
    """Totals, and a chart with the number of users online, which a screen reader reads as a sentence."""
    own = serve_one("embedded")
    ada = somebody(own, "ada")
    with Client(own.mqtt_port, "pump", "p") as client:
        for number in range(3):
            login(client, "pump", "p", f"c{number}")
            client.publish("presence/pump/p/will", f'{{"connectionId":"c{number}"}}'.encode())
        ada.come("#history")
        ada.sign_in()
        figures = ada.page.locator("#figures")
        for text in ("Users2", "Connections4", "Drops3"):
            expect(figures).to_contain_text(text)
        chart = ada.page.locator("#chart")
        expect(chart.locator("canvas")).to_be_visible()
        assert "Users online over time: at most" in (chart.get_attribute("aria-label") or "")
        painted = chart.locator("canvas").evaluate(
            "(c) => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
        )
        assert painted > 3
        ada.page.click("#ranges button:text-is('7 d')")
        expect(ada.page.locator("#history-title")).to_have_text("The last 7 days")
        expect(figures).to_contain_text("Connections4")
        lines = ada.page.locator("#lines .who .name")
        expect(lines).to_have_text(["ada", "pump"])
        ada.page.click("#timeline button:text('Connections')")
        expect(lines).to_have_text(["pump", "ada"])


@one_broker
def test_csv_has_the_connections_of_the_period(
    served: Served, somebody: Callable[..., Somebody], tmp_path: Path
) -> None:
    """The file has all pages of the list: of a user, and of all users."""
    ada = somebody(served, "ada-csv")
    # Small pages: the test has a few connections only.
    ada.page.route(
        "**/connections.csv?*limit=500*",
        lambda route: route.continue_(url=route.request.url.replace("limit=500", "limit=2")),
    )
    with Client(served.mqtt_port, "csv-pump", "p") as client:
        for number in range(5):
            login(client, "csv-pump", "p", f"csv-{number}", "=1+1")
        ada.come("#person/csv-pump")
        ada.sign_in()
        expect(ada.page.locator("#line-rows tr")).to_have_count(5)

        def saved() -> list[dict[str, str]]:
            with ada.page.expect_download() as download:
                ada.page.click("button.csv")
            download.value.save_as(tmp_path / "saved.csv")
            with (tmp_path / "saved.csv").open(newline="") as file:
                return list(csv.DictReader(file))

        rows = saved()
        assert [row["connectionId"] for row in rows] == [f"csv-{number}" for number in reversed(range(5))]
        assert {row["userAgent"] for row in rows} == {"'=1+1"}
        ada.page.click("#views a[href$='#history']")
        expect(ada.page.locator("#figures")).to_be_visible()
        rows = saved()
        ids = [(row["userId"], row["clientId"], row["connectionId"]) for row in rows]
        assert {f"csv-{number}" for number in range(5)} <= {row["connectionId"] for row in rows}
        assert len(ids) == len(set(ids))
        assert "ada-csv" in {row["userId"] for row in rows}


@one_broker
def test_an_operator_forgets_a_user(
    served: Served, somebody: Callable[..., Somebody], page_errors: PageErrors
) -> None:
    """After a confirmation the user is gone from the list; a refusal is shown, and nothing is deleted."""
    page_errors.allow("503")
    ada = somebody(served, "ada-forgets")
    ada.come()
    ada.sign_in()
    with Client(served.mqtt_port, "old-pump", "p") as client:
        login(client, "old-pump", "p")
        client.publish("presence/old-pump/p/logout", b'{"connectionId":"c1"}')
        ada.sees("old-pump", "offline")
    ada.row("old-pump").locator("a").click()
    ada.page.click("#forget")
    ada.page.click("#forget-cancel")
    expect(ada.page.locator("#forget-dialog")).to_be_hidden()
    expect(ada.page.locator("#forget")).to_be_focused()

    def refuse(route: Route) -> None:
        route.fulfill(status=500, json={"detail": "the disk is full"})

    page_errors.allow("500")
    ada.page.route("**/api/v1/forgotten", refuse)
    ada.page.click("#forget")
    ada.page.click("#forget-confirm")
    expect(ada.page.locator("#forget-error")).to_contain_text("the disk is full")
    ada.page.unroute("**/api/v1/forgotten")
    ada.page.click("#forget-confirm")
    expect(ada.page.locator("#people-title")).to_be_focused()
    expect(ada.row("old-pump")).to_have_count(0)
