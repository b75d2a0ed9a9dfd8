"""The page to try the HTTP API, in a real browser, under the page's own policy."""

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.support.browser import PageErrors
from tests.support.web import Page, get

TOKEN = "0123456789abcdef"


def test_requests_can_be_tried_on_the_page(browser: Browser, tmp_path: Path) -> None:
    """With a token, for a path, a body and a stream; it loads nothing from another host."""
    with Page(tmp_path, "up", MQTT_PRESENCE_WEB_TOKEN=TOKEN) as up:
        errors, context = PageErrors(), browser.new_context()
        errors.listen(context)
        errors.allow("status of 40[14]")
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://127.0.0.1:{up.port}/api/v1")
        resource, answer = page.get_by_label("Resource"), page.locator("#answer")
        resource.select_option(label="GET /counts")
        page.get_by_role("button").click()
        expect(page.get_by_role("status")).to_contain_text("401")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button").click()
        expect(answer).to_contain_text('"total": 0')
        resource.select_option(label="GET /users/{user}")
        page.get_by_role("textbox", name="user").fill("a b")
        page.get_by_role("button").click()
        expect(answer).to_contain_text("there is no user a b")
        resource.select_option(label="POST /users/query")
        page.get_by_role("button").click()
        expect(answer).to_contain_text('"unknown"')
        resource.select_option(label="GET /stream")
        page.get_by_role("button").click()
        expect(answer).to_contain_text("event: ready")
        assert {url.split("/")[2] for url in asked} == {f"127.0.0.1:{up.port}"}
        context.close()
        errors.assert_none()
        policy = get(up.port, "/api/v1").headers["content-security-policy"]
        assert policy == get(up.port, "/").headers["content-security-policy"]
