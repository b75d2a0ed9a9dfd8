"""The page of examples/browser/ in a real Chromium: its user is there, and gone with the browser."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.bridges import BridgeThread
from tests.support.brokers import Embedded

ROOT = Path(__file__).parents[2]
EXAMPLE = "examples/browser/index.html"


class Files(SimpleHTTPRequestHandler):
    """The project as ``python3 -m http.server`` serves it, but for the port in the example."""

    def __init__(self, ws_port: int, *how) -> None:
        self._ws_port = ws_port
        super().__init__(*how, directory=str(ROOT))

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if "/examples/browser/" not in self.path:
            super().do_GET()
            return
        text = (ROOT / EXAMPLE).read_text("utf-8")
        assert text.count("ws://localhost:9001") == 1
        body = text.replace("ws://localhost:9001", f"ws://localhost:{self._ws_port}").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def broker(sqlite_url: str) -> Iterator[Embedded]:
    with Embedded(ws=True) as broker, BridgeThread(broker=broker.url, database=sqlite_url):
        yield broker


@pytest.fixture
def url(broker: Embedded) -> Iterator[str]:
    """Serve the example."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, broker.ws_port)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/examples/browser/"
        server.shutdown()


@contextmanager
def chromium(url: str, directory: Path) -> Iterator[None]:
    """Show a page until the block ends; then the browser crashes."""
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    assert program is not None, "Chromium is not installed: make tools"
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0")
    with (directory / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *flags, f"--user-data-dir={directory / 'profile'}", url],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def test_example_shows_its_user_as_there_and_gone(broker: Embedded, url: str, tmp_path: Path) -> None:
    """Online with the page, lost with the browser."""
    recorder = broker.recorder()
    with chromium(f"{url}?alice", tmp_path):
        assert "Chrome" in recorder.wait_for_event("alice", "connectionLogin")["userAgent"]
        recorder.wait_for_state("alice", "online")
    recorder.wait_for_state("alice", "offline")
    assert recorder.wait_for_event("alice", "connectionLogout")["reason"] == "lost"
