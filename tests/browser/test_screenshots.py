"""The pictures of the page in the README, made as `make screenshots` makes them."""

import base64
import os
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import Served
from tests.support.browser import Somebody

DOCS = Path(__file__).parents[2] / "docs"
MOST_BYTES = 150_000
# Says so where the pictures in docs/ are to be made again: they change with every font and version of Chromium.
KEEP = "KEEP_SCREENSHOTS"


_COUNT_COLOURS = """async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  return new Set(new Uint32Array(canvas.getImageData(0, 0, image.width, image.height).data.buffer)).size;
}"""


def test_pictures_of_the_page(crowded: Served, somebody: Callable[..., Somebody], tmp_path: Path) -> None:
    """In light and in dark the page is not blank, the two differ, and they are small."""
    pictures = {}
    for theme in ("light", "dark"):
        ada = somebody(crowded, "ada", color_scheme=theme, viewport={"width": 1200, "height": 780})
        ada.come()
        ada.sign_in()
        ada.sees("lobby-display", "online")
        ada.sees("ada", "online")
        expect(ada.page.locator("#views")).to_be_visible()
        expect(ada.page.locator("#round-trip")).to_contain_text("ms")
        ada.page.mouse.move(5, 790)
        picture = tmp_path / f"page-{theme}.png"
        pictures[theme] = ada.page.screenshot(path=picture, animations="disabled")
        colours = ada.page.evaluate(
            _COUNT_COLOURS, "data:image/png;base64," + base64.b64encode(pictures[theme]).decode()
        )
        assert colours > 50, f"{picture} has {colours} colours"
        assert len(pictures[theme]) < MOST_BYTES
        ada.page.context.close()
    assert pictures["light"] != pictures["dark"]
    if os.environ.get(KEEP):
        for theme, picture in pictures.items():
            (DOCS / f"page-{theme}.png").write_bytes(picture)


def test_the_pictures_in_the_readme_are_there() -> None:
    """The README shows both, and both are small."""
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    for theme in ("light", "dark"):
        assert f"docs/page-{theme}.png" in readme
        assert 5_000 < (DOCS / f"page-{theme}.png").stat().st_size < MOST_BYTES
