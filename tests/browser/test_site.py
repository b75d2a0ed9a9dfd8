"""The site of the documents: read from files, in a real browser, without a request to any other host."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import PageErrors

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the site as `make docs` does."""
    made = tmp_path_factory.mktemp("site")
    [line] = re.findall(r"\$\(BIN\)/sphinx-build (.*)", (ROOT / "Makefile").read_text("utf-8"))
    arguments = line.replace("build/doctrees", str(made / "doctrees")).replace(
        "build/docs", str(made / "html")
    )
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *arguments.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return made / "html"


class Targets(HTMLParser):
    """Collects the links and the anchors of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value or "")
            elif name in {"href", "src", "srcset"} and value:
                self.links.append(value)


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    """Pages, pictures, downloads and anchors are there, those in HTML of the documents too."""
    pages = {page: Targets(page) for page in site.rglob("*.html") if "_static" not in page.parts}
    assert len(pages) > 30
    for page, targets in pages.items():
        for link in targets.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.exists(), (page.relative_to(site), link)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors, (page.relative_to(site), link)


def test_documents_are_all_in_the_order_of_the_site(site: Path) -> None:
    """Four parts, and each document of docs/ in one of them."""
    text = (site / "index.html").read_text("utf-8")
    captions = re.findall(r'class="caption-text">([^<]+)<', text)
    assert captions[:4] == ["Tutorials", "How to", "Reference", "Explanation"]
    linked = set(Targets(site / "index.html").links)
    for document in (ROOT / "docs").rglob("*.md"):
        if "site" not in document.parts:
            assert document.relative_to(ROOT).with_suffix(".html").as_posix() in linked, document.name


def test_site_is_read_without_a_network(site: Path, browser: Browser) -> None:
    """The first page shows its picture, the protocol its drawing, and the search works: all from files."""
    errors = PageErrors()
    asked: list[str] = []
    context = browser.new_context()
    try:
        errors.listen(context)
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.goto((site / "index.html").as_uri())
        assert page.locator("picture img").evaluate("img => img.naturalWidth") > 100
        page.goto((site / "docs/protocol.html").as_uri())
        expect(page.locator("pre.mermaid svg")).to_be_visible()
        page.goto((site / "search.html").as_uri() + "?q=tombstones")
        expect(page.locator("#search-results ul li").first).to_be_visible()
    finally:
        context.close()
    assert asked
    assert [url for url in asked if not url.startswith(("file://", "data:", "blob:"))] == []
    errors.assert_none()
