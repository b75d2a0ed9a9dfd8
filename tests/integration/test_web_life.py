"""The web server's beginning, limits and end; and that nothing it does keeps the broker waiting."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from mqtt_presence.cli import banner
from mqtt_presence.cli import page_config as cli_page
from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig
from mqtt_presence.errors import WebError
from mqtt_presence.settings import Settings
from mqtt_presence.store import Store
from mqtt_presence.store.reader import Reader
from mqtt_presence.web import WebConfig, WebServer, database_reader, server, uvicorn_limits
from tests.support.mqtt import Client
from tests.support.waiting import free_port, listens, until
from tests.support.web import Page, frame, get, mqtt_connect, raw_websocket, websocket

SUBSCRIBE_STATUSES = b"\x82\x0d\0\1\0\x08status/+\1"
SUBSCRIBE_BRIDGE = b"\x82\x0d\0\1\0\x08bridge/+\1"


class House:
    """Broker and page in this process, where a test can look inside and change limits."""

    def __init__(self, broker: EmbeddedBroker, page: WebServer) -> None:
        self.broker = broker
        self.page = page

    @property
    def port(self) -> int:
        return self.page.port

    def connections(self) -> set[object]:
        assert self.page._server is not None
        return set(self.page._server.server_state.connections)


@pytest.fixture
def house(sqlite_url: str) -> Iterator[House]:
    store = Store(sqlite_url)
    store.open()
    store.close()
    with (
        EmbeddedBroker(EmbeddedConfig(port=0, bridge_password="secret")) as broker,
        WebServer(WebConfig(sqlite_url, port=0, open=True), broker) as page,
    ):
        yield House(broker, page)


def is_cut(sock: socket.socket, deadline_s: float = 20.0) -> bool:
    """Wait until the other side has closed, whatever it said before."""
    sock.settimeout(deadline_s)
    try:
        while sock.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


# The beginning.


@pytest.mark.parametrize(
    "command", [("up", "--port", "0", "--no-ws"), ("run", "--web-mqtt-url", "ws://127.0.0.1")]
)
def test_port_in_use_is_said(tmp_path: Path, command: tuple[str, ...]) -> None:
    """One line with the setting's name, exit code 1, and the other program is not disturbed."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "mqtt_presence", *command, "--web", "--web-port", str(port)],
            env={"XDG_DATA_HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1, done
    (line,) = done.stderr.splitlines()
    assert f"web_port={port} on 127.0.0.1 is in use" in line
    assert "choose another web_port, or leave the page out: --no-web" in line


def test_page_can_be_left_out(tmp_path: Path) -> None:
    """And then nobody listens."""
    port, web_port = free_port(), free_port()
    log = tmp_path / "log"
    command = ["up", "--port", str(port), "--no-ws", "--no-web", "--web-port", str(web_port)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "mqtt_presence", *command],
            env={"XDG_DATA_HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            stdout=out, stderr=out,
        )  # fmt: skip
    try:
        until(lambda: "connected to" in log.read_text(), log.read_text())
        assert not listens(web_port)
        assert "http://" not in log.read_text()
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_a_server_may_start_and_stop_again_and_again(sqlite_url: str) -> None:
    """It leaves its port, on its own loop and on the broker's."""
    port = free_port()
    beside = WebConfig(sqlite_url, port=port, mqtt_url="ws://127.0.0.1:9")
    for _ in range(3):
        with WebServer(beside) as page:
            assert get(page.port, "/").status == 200
            with pytest.raises(WebError, match=f"web_port={port}"):
                WebServer(beside).start()
            page.stop()
    assert not listens(port)


def test_ipv6_is_served_under_its_address(sqlite_url: str) -> None:
    with WebServer(WebConfig(sqlite_url, host="::1", port=0, mqtt_url="ws://[::1]:9")) as page:
        connection = http.client.HTTPConnection("::1", page.port, timeout=10)
        connection.request("GET", "/api/config")
        response = connection.getresponse()
        assert response.status == 200
        assert json.loads(response.read())["operator"] is True
        connection.close()


def test_what_the_page_lacks_is_said_at_the_start(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The build's warning that there was no npm is hidden by pip, so `up` and `run` say it."""
    settings = Settings()
    there, missing = Path(__file__), Path(__file__).with_name("no such file")
    for file, is_said in ((there, False), (missing, True)):
        monkeypatch.setattr(cli_page, "MQTT_JS", file)
        caplog.clear()
        banner.show_banner(settings, house.broker, house.page)
        cli_page.log_page(house.page)
        shown = capsys.readouterr().out
        assert "mqtt-presence is up" in shown
        for said in (shown, caplog.text):
            assert ("MQTT.js is missing" in said and "apt-get install npm" in said) is is_said
    banner.show_banner(settings, house.broker, None)
    assert "MQTT.js" not in capsys.readouterr().out, "there is no page"


# The end.


def test_up_ends_cleanly_whoever_is_connected(tmp_path: Path) -> None:
    """With clients, idle connections, half a request and a reader that reads nothing: soon, with 0, and wills."""
    with Page(tmp_path, "up") as page, contextlib.ExitStack() as sockets:
        device = sockets.enter_context(page.websocket())
        device.send(mqtt_connect("phone"))
        assert device.recv() == b"\x20\x02\0\0"
        device.send(SUBSCRIBE_BRIDGE)
        until(lambda: b'"online"' in device.recv(timeout=10))
        device.send(b"\x32\x20\0\x1apresence/alice/phone/login\0\1{}")
        until(lambda: device.recv(timeout=10) == b"\x40\2\0\1")
        sockets.enter_context(page.websocket())  # no CONNECT
        for said in (b"", b"GET / HTTP/1.1\r\nHost:", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50):
            raw = sockets.enter_context(socket.create_connection(("127.0.0.1", page.port)))
            raw.sendall(said)
        began = time.monotonic()
        assert page.stop() == 0
        assert time.monotonic() - began < 10
        told = b""
        with contextlib.suppress(ConnectionClosed):
            while True:
                told += device.recv(timeout=10)
        assert b'"offline"' in told  # the bridge's last word comes through
        assert "Traceback" not in page.log()
        assert "error" not in page.log()
    with Page(tmp_path, "up") as again:
        (record,) = again.api("connections", open="false").json["connections"]
        assert (record["userId"], record["clientId"]) == ("alice", "phone")


def test_a_killed_browser_is_offline_at_once(house: House) -> None:
    """Its socket closes, its will goes out."""
    with Client(house.broker.port, "bridge", "bridge-1", password="secret") as bridge:
        bridge._socket.sendall(b"\x82\x13\0\1\0\x0epresence/#/+/+\1"[:0] + b"\x82\x0f\0\1\0\x0apresence/#\1")
        assert bridge._read()[0] == 0x90
        with websocket(house.port) as page:
            will = b"\0\x19presence/alice/phone/will\0\0"
            body = b"\0\4MQTT\4\x8e\0\x3c\0\5phone" + will + b"\0\5alice"
            page.send(bytes((0x10, len(body))) + body)
            assert page.recv() == b"\x20\x02\0\0"
            assert house.broker.client_address("alice", "phone") == "127.0.0.1"
            page.socket.shutdown(socket.SHUT_RDWR)
        head, said = bridge._read()
        assert (head & 0xF0, said[2:27]) == (0x30, b"presence/alice/phone/will")


# Limits.


def test_connections_beyond_the_limit_are_cut(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for requests; a WebSocket that is in stays in, and when one goes another may come."""
    monkeypatch.setattr(uvicorn_limits, "CONNECTIONS", 3)
    with contextlib.ExitStack() as sockets:
        inside = [sockets.enter_context(websocket(house.port)) for _ in range(3)]
        for _ in range(5):
            raw = sockets.enter_context(socket.create_connection(("127.0.0.1", house.port)))
            assert is_cut(raw)
        inside[0].send(mqtt_connect("phone"))
        assert inside[0].recv() == b"\x20\x02\0\0"
        inside[1].close()

        def comes_in() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return get(house.port, "/").status == 200
            return False

        until(comes_in, "another may come")


def test_connections_for_requests_have_a_limit_of_their_own(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WebSockets have room however many browsers ask; the one that has waited longest makes room."""
    monkeypatch.setattr(uvicorn_limits, "REQUESTS", 2)
    with contextlib.ExitStack() as sockets:

        def ask_on(sock: socket.socket) -> socket.socket:
            sock.sendall(b"GET /api/config HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sock.recv(12) == b"HTTP/1.1 200"
            return sock

        for _ in range(5):
            sockets.enter_context(websocket(house.port))
        first, second, third, _ = (
            ask_on(sockets.enter_context(socket.create_connection(("127.0.0.1", house.port))))
            for _ in range(4)
        )
        assert is_cut(first)
        assert is_cut(second)
        third.settimeout(20)
        while not third.recv(1 << 16).endswith(b"}"):
            pass
        ask_on(third)


def test_silent_connections_shut_nobody_out(house: House) -> None:
    """Whoever opens as many as it can has its own oldest closed; page, API and MQTT go on for all."""
    with contextlib.ExitStack() as sockets:
        silent = [
            sockets.enter_context(socket.create_connection(("127.0.0.1", house.port)))
            for _ in range(uvicorn_limits.REQUESTS + 20)
        ]
        for path in ("/", "/static/page/main.js", "/api/config"):
            assert get(house.port, path).status == 200
        page = sockets.enter_context(websocket(house.port))
        page.send(mqtt_connect("phone"))
        assert page.recv() == b"\x20\x02\0\0"
        assert all(is_cut(sock) for sock in silent[:20])
        assert len(house.connections()) <= uvicorn_limits.REQUESTS + 1


def test_a_request_in_progress_is_not_cut_for_a_silent_connection(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for an answer gets it, however many come meanwhile that ask nothing."""
    monkeypatch.setattr(uvicorn_limits, "REQUESTS", 3)
    begun, go_on = threading.Event(), threading.Event()

    def users_page(*_: object, **__: object) -> list[object]:
        begun.set()
        assert go_on.wait(20)
        return []

    monkeypatch.setattr(Reader, "users_page", users_page)
    with contextlib.ExitStack() as sockets, ThreadPoolExecutor() as pool:
        answer = pool.submit(get, house.port, "/api/users")
        assert begun.wait(20)
        silent = [
            sockets.enter_context(socket.create_connection(("127.0.0.1", house.port))) for _ in range(9)
        ]
        assert all(is_cut(sock) for sock in silent[:7])
        go_on.set()
        assert answer.result(20).status == 200


@dataclass(frozen=True)
class Place:
    """A connection as the choice sees it."""

    name: str
    network: str
    waits_since: float
    is_busy: bool = False


def test_who_has_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest without a request; of those that are busy the longest; of a crowd one of its own."""
    monkeypatch.setattr(uvicorn_limits, "REQUESTS", 8)
    at_home, away = "127.0.0.1", "203.0.113.7"
    busy = [Place("b1", at_home, 1, is_busy=True), Place("b2", away, 2, is_busy=True)]
    idle = [Place("i1", away, 4), Place("i2", at_home, 3)]
    crowd = [Place(f"c{n}", "198.51.100.1", 10 + n, is_busy=n != 1) for n in range(3)]

    def goes(*places: Place) -> str | None:
        found = uvicorn_limits.superfluous(places)
        return None if found is None else found.name

    assert goes() is None
    assert goes(*busy) == "b1"
    assert goes(*busy, *idle) == "i2"
    assert goes(*busy, *idle[:1], *crowd[:2]) == "i1", "two of eight are no crowd"
    assert goes(*busy, *idle[:1], *crowd) == "c1"
    assert goes(*idle[:1], crowd[0], *crowd[2:], Place("c4", "198.51.100.1", 5, is_busy=True)) == "c4"


def test_requests_that_never_end_are_cut(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing said, half a head, a head that grows, an answer that is not read: none may stay."""
    monkeypatch.setattr(uvicorn_limits, "REQUEST_S", 0.3)
    said = (
        b"",
        b"GET / HTTP/1.1\r\n",
        b"POST /api/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
    )
    for text in said:
        with socket.create_connection(("127.0.0.1", house.port)) as raw:
            raw.sendall(text)
            assert is_cut(raw)
    with socket.create_connection(("127.0.0.1", house.port)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (uvicorn_limits.HEAD_BYTES + 1))
        assert is_cut(raw)
    with socket.create_connection(("127.0.0.1", house.port)) as raw:
        with contextlib.suppress(OSError):
            for _ in range(10_000):  # a byte now and then keeps nobody in
                raw.sendall(b"x")
                time.sleep(0.01)
        assert is_cut(raw)
    with websocket(house.port) as page:  # the limit is for requests
        page.send(mqtt_connect("phone"))
        assert page.recv() == b"\x20\x02\0\0"
        with contextlib.suppress(TimeoutError):
            page.recv(timeout=1)
        page.send(b"\xc0\0")
        assert page.recv() == b"\xd0\0"


def test_websockets_that_answer_no_ping_are_cut(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser whose machine sleeps is not online until its keep alive; who says pongs stays."""
    monkeypatch.setattr(server, "PING_S", 0.3)
    with (
        EmbeddedBroker(EmbeddedConfig(port=0, bridge_password="secret")) as broker,
        WebServer(WebConfig(sqlite_url, port=0, open=True), broker) as page,
        websocket(page.port) as living,
        raw_websocket(page.port) as dead,
    ):
        dead.sendall(frame(mqtt_connect("dead")))
        living.send(mqtt_connect("living"))
        assert living.recv() == b"\x20\x02\0\0"
        assert is_cut(dead)
        sessions = broker._broker.router.sessions
        until(lambda: "dead" not in sessions or sessions["dead"].connection is None)
        living.send(b"\xc0\0")
        assert living.recv() == b"\xd0\0"


def test_websockets_that_ping_and_do_not_read_are_cut(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pongs that wait for them stay bounded."""
    monkeypatch.setattr(uvicorn_limits, "BACKLOG_BYTES", 10_000)
    pings = frame(b"x" * 125, opcode=9) * 500
    with raw_websocket(house.port) as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.settimeout(20)
        with pytest.raises(ConnectionError):
            greedy.sendall(pings * 1000)  # 65 MB: more than any kernel keeps
    with websocket(house.port) as other:
        other.send(mqtt_connect("other"))
        assert other.recv() == b"\x20\x02\0\0"


def test_questions_beyond_the_limit_are_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 and when to come again, instead of a queue without end."""
    monkeypatch.setattr(database_reader, "WAITING", 0)
    answer = get(house.port, "/api/users")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    monkeypatch.setattr(database_reader, "WAITING", 1)
    assert get(house.port, "/api/users").status == 200


# Others are not kept waiting.


def flood(house: House, done: threading.Event) -> None:
    """Send the smallest frames with the smallest packets, as fast as they go, and ask the API in between."""
    with websocket(house.port) as page:
        page.send(mqtt_connect("flood", "mallory"))
        assert page.recv() == b"\x20\x02\0\0"
        page.socket.settimeout(0.2)
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                page.socket.sendall(frame(b"\xc0\0") * 20_000)
        page.socket.shutdown(socket.SHUT_RDWR)


def ask(house: House, done: threading.Event) -> None:
    while not done.is_set():
        assert get(house.port, "/api/connections").status in {200, 503}


def test_a_busy_page_does_not_stall_the_broker(house: House) -> None:
    """While one floods its WebSocket and others the API, another client's pings are answered, each soon."""
    done = threading.Event()
    threads = [threading.Thread(target=flood, args=(house, done))]
    threads += [threading.Thread(target=ask, args=(house, done)) for _ in range(2)]
    with Client(house.broker.port, "alice", "phone") as device:
        for thread in threads:
            thread.start()
        try:
            took = []
            end = time.monotonic() + 3
            while time.monotonic() < end:
                began = time.monotonic()
                device._socket.sendall(b"\xc0\0")
                assert device._read()[0] == 0xD0
                took.append(time.monotonic() - began)
        finally:
            done.set()
            for thread in threads:
                thread.join(20)
    # A machine that does something else may take one or two away; a loop that is kept busy takes them all.
    assert sorted(took)[-3] < 0.3, sorted(took)[-10:]
