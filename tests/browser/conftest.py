"""A browser for the tests here, and the two ways in which the live page is served."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Playwright, sync_playwright

import hatch_build
from mqtt_presence.access.passwords import add_user
from tests.support.brokers import BRIDGE_PASSWORD, Mosquitto
from tests.support.browser import PageErrors, Somebody, launch, windows
from tests.support.mqtt import Client
from tests.support.people import statuses
from tests.support.waiting import free_port
from tests.support.web import Page

one_broker = pytest.mark.parametrize("served", ["embedded"], indirect=True)
"""For tests that do not depend on the broker."""


@dataclass
class Served:
    """A served live page, and the port of its broker."""

    url: str
    mqtt_port: int
    page: Page
    mosquitto: Mosquitto | None = None
    ws_port: int = 0


def serve(
    kind: str, directory: Path, stack: ExitStack, *flags: str, users: dict[str, str] | None = None
) -> Served:
    """Serve the page: `up` with its own broker, or `run --web` beside a mosquitto.

    Args:
        kind: which.
        directory: its own.
        stack: ends it.
        flags: settings of the command.
        users: passwords by user; None: everybody may come in.

    """
    directory.mkdir(parents=True, exist_ok=True)
    if kind == "embedded":
        if users is not None:
            for name, password in users.items():
                add_user(directory / "passwords", name, password)
            flags = (*flags, "--password-file", str(directory / "passwords"))
        page = stack.enter_context(Page(directory, "up", *flags))
        return Served(f"http://127.0.0.1:{page.port}/", page.mqtt_port, page)
    ws_port = free_port()
    if users is not None:
        users = users | {"bridge": BRIDGE_PASSWORD}
    listener = f"listener {ws_port} 127.0.0.1\nprotocol websockets\n"
    mosquitto = stack.enter_context(Mosquitto(directory / "mosquitto", listener, users))
    page = stack.enter_context(run_beside(mosquitto, ws_port, directory, *flags))
    return Served(f"http://127.0.0.1:{page.port}/", mosquitto.port, page, mosquitto, ws_port)


def run_beside(mosquitto: Mosquitto, ws_port: int, directory: Path, *flags: str) -> Page:
    """Make a bridge with its page beside a mosquitto."""
    urls = ("--broker", mosquitto.url, "--web-mqtt-url", f"ws://127.0.0.1:{ws_port}/mqtt")
    return Page(directory, "run", *urls, "--database", f"sqlite:///{directory / 'presence.db'}", *flags)


@pytest.fixture(scope="package", autouse=True)
def bundle(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bundle the present modules: the tests see the page as people get it."""
    with (tmp_path_factory.getbasetemp().parent / "bundle.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process of the tests at a time
        hatch_build.make(Path(__file__).parents[2])


@pytest.fixture(scope="package", params=["embedded", "mosquitto"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the page, in either way in turn, for all tests; each has users of its own."""
    with ExitStack() as stack:
        yield serve(request.param, tmp_path_factory.mktemp(request.param), stack)


@pytest.fixture
def serve_one(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Return a function that serves a page of the test's own."""
    with ExitStack() as stack:
        yield lambda kind, *flags, **how: serve(kind, tmp_path / kind, stack, *flags, **how)


@pytest.fixture(scope="package")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a page with users for a picture, on a mosquitto where the test may publish statuses."""
    with ExitStack() as stack:
        served = serve("mosquitto", tmp_path_factory.mktemp("crowded"), stack)
        with Client(served.mqtt_port, "painter", "painter") as painter:
            painter.publish_all(statuses(), retain=True)
        yield served


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """Run Playwright for these tests only, because it keeps an event loop in the main thread."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Run Chromium."""
    with launch(playwright) as started:
        yield started


@pytest.fixture
def page_errors() -> Iterator[PageErrors]:
    """Collect errors of pages; an unexpected one fails the test."""
    errors = PageErrors()
    yield errors
    errors.assert_none()


@pytest.fixture(scope="package")
def watcher(served: Served, browser: Browser) -> Iterator[Somebody]:
    """Sign a user in who watches the statuses of the others."""
    errors = PageErrors()
    with windows(browser, errors) as opened:
        bob = Somebody(opened().new_page(), served.url, "bob")
        bob.come()
        bob.sign_in()
        yield bob
    errors.assert_none()


@pytest.fixture
def window(browser: Browser, page_errors: PageErrors) -> Iterator[Callable[..., BrowserContext]]:
    """Return a function that opens a window."""
    with windows(browser, page_errors) as opened:
        yield opened


@pytest.fixture
def somebody(window: Callable[..., BrowserContext]) -> Callable[..., Somebody]:
    """Return a function that opens a page for a user, in a new window or in a given one."""

    def put(
        where: Served | str, name: str = "", *, beside: Somebody | None = None, **how: object
    ) -> Somebody:
        context = window(**how) if beside is None else beside.page.context
        return Somebody(context.new_page(), where if isinstance(where, str) else where.url, name)

    return put
