"""The pictures of the page in the README and in docs/, made as `make screenshots` makes them."""

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Served, serve
from tests.support.browser import Somebody
from tests.support.people import save_lives
from tests.support.waiting import now_ms

DOCS = Path(__file__).parents[2] / "docs"
MOST_BYTES = 150_000
# Says so where the pictures in docs/ are to be made again: they change with every font and version of Chromium.
KEEP = "KEEP_SCREENSHOTS"
WIDE, PHONE = {"width": 1200, "height": 780}, {"width": 390, "height": 780}
PICTURES = [
    "page-light",
    "page-dark",
    "page-phone",
    "page-person",
    "page-history",
    "page-empty",
    "page-locked",
]


_COUNT_COLOURS = """async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  return new Set(new Uint32Array(canvas.getImageData(0, 0, image.width, image.height).data.buffer)).size;
}"""


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a page with people and a week of their connections."""
    directory = tmp_path_factory.mktemp("lived")
    save_lives(f"sqlite:///{directory / 'presence.db'}", now_ms())
    with ExitStack() as stack:
        yield serve("mosquitto", directory, stack)


def take(ada: Somebody, name: str, directory: Path) -> bytes:
    """Take a picture, and look whether it shows something and is small; keep it where that is asked for."""
    ada.page.mouse.move(5, 770)
    picture = ada.page.screenshot(path=directory / f"{name}.png", animations="disabled")
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    colours = ada.page.evaluate(_COUNT_COLOURS, url)
    assert colours > 50, f"{name} has {colours} colours"
    assert len(picture) < MOST_BYTES, name
    if os.environ.get(KEEP):
        (DOCS / f"{name}.png").write_bytes(picture)
    return picture


def test_pictures_of_people(lived: Served, somebody: Callable[..., Somebody], tmp_path: Path) -> None:
    """In light, in dark and on a phone the page is not blank, and the pictures differ."""
    pictures = set()
    for name, theme, size in (
        ("page-light", "light", WIDE),
        ("page-dark", "dark", WIDE),
        ("page-phone", "light", PHONE),
    ):
        ada = somebody(lived, "ada", color_scheme=theme, viewport=size)
        ada.come()
        ada.sign_in()
        ada.sees("lobby-display", "online")
        ada.sees("ada", "online")
        expect(ada.page.locator("#left-last .why").first).to_be_visible()
        pictures.add(take(ada, name, tmp_path))
        ada.page.context.close()
    assert len(pictures) == 3


def test_pictures_of_a_person_and_the_history(
    lived: Served, somebody: Callable[..., Somebody], tmp_path: Path
) -> None:
    """A person with devices and a day, and a week of all with figures."""
    ada = somebody(lived, "ada", viewport=WIDE)
    ada.come("#person/priya")
    ada.sign_in()
    expect(ada.page.locator("#devices tr").first).to_be_visible()
    expect(ada.page.locator("#line-rows tr").first).to_be_visible()
    expect(ada.page.locator("#summary")).to_contain_text("Online today")
    person = take(ada, "page-person", tmp_path)
    ada.page.click("#views a[href$='#history']")
    expect(ada.page.locator("#history #lines .span").first).to_be_visible()
    ada.page.click("#ranges button:text-is('7 d')")
    expect(ada.page.locator("#history-title")).to_have_text("The last 7 days")
    expect(ada.page.locator(".track")).not_to_have_count(0)
    expect(ada.page.locator(".track[aria-busy]")).to_have_count(0)
    expect(ada.page.locator("#chart canvas")).to_be_visible()
    assert take(ada, "page-history", tmp_path) != person


def test_pictures_of_an_empty_and_a_locked_page(
    serve_one: Callable[..., Served], somebody: Callable[..., Somebody], tmp_path: Path
) -> None:
    """Both say how to go on."""
    served = serve_one("embedded", "--web-token", "a-token-of-the-tests")
    ada = somebody(served, "ada", viewport=WIDE)
    ada.come()
    ada.sign_in()
    expect(ada.page.locator("#first-device")).to_be_visible()
    take(ada, "page-empty", tmp_path)
    ada.page.click("#views a[href$='#history']")
    expect(ada.page.locator("#locked")).to_be_visible()
    take(ada, "page-locked", tmp_path)


def test_the_pictures_are_there() -> None:
    """The README and docs/web.md show them, and all are small."""
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    page = (DOCS / "web.md").read_text("utf-8")
    for name in PICTURES:
        assert f"docs/{name}.png" in readme or f"({name}.png)" in page, name
        assert 5_000 < (DOCS / f"{name}.png").stat().st_size < MOST_BYTES
