"""Start, limits and stop of the web server, and its effect on the broker: clients do not wait."""

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
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from mqtt_presence.cli import banner
from mqtt_presence.cli import page_config as cli_page
from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig
from mqtt_presence.errors import WebError
from mqtt_presence.mqtt.framing import Kind
from mqtt_presence.settings import Settings
from mqtt_presence.store import Store
from mqtt_presence.web import WebConfig, WebServer, bounded_listener, database_reader, page_files, server
from tests.support.mqtt import Client
from tests.support.waiting import free_port, listens, until
from tests.support.web import Page, frame, get, mqtt_connect, raw_websocket, websocket

SUBSCRIBE_STATUSES = b"\x82\x0d\0\1\0\x08status/+\1"
SUBSCRIBE_BRIDGE = b"\x82\x0d\0\1\0\x08bridge/+\1"


class Servers:
    """Broker and page in this process, so that a test can change limits."""

    def __init__(self, broker: EmbeddedBroker, page: WebServer) -> None:
        self.broker = broker
        self.page = page

    @property
    def port(self) -> int:
        return self.page.port

    @property
    def connection_count(self) -> int:
        assert self.page._listener is not None
        return self.page._listener.connection_count


@contextlib.contextmanager
def both(sqlite_url: str) -> Iterator[Servers]:
    store = Store(sqlite_url)
    store.open()
    store.close()
    with (
        EmbeddedBroker(EmbeddedConfig(port=0, bridge_password="secret")) as broker,
        WebServer(WebConfig(sqlite_url, port=0, open=True), broker) as page,
    ):
        yield Servers(broker, page)


@pytest.fixture
def servers(sqlite_url: str) -> Iterator[Servers]:
    with both(sqlite_url) as started:
        yield started


def is_cut(sock: socket.socket, deadline_s: float = 20.0) -> bool:
    """Wait until the server has closed the connection; ignore the bytes before."""
    sock.settimeout(deadline_s)
    try:
        while sock.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


# Start.


@pytest.mark.parametrize(
    "command", [("up", "--port", "0", "--no-ws"), ("run", "--web-mqtt-url", "ws://127.0.0.1")]
)
def test_port_in_use_is_an_error(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The command prints one line with the name of the setting, and exits with 1."""
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
    """With --no-web, no port listens for browsers."""
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
    """Each stop frees the port."""
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


def test_a_missing_mqtt_js_is_logged_at_the_start(
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Pip hides the build's warning that npm is missing, so `up` and `run` log one."""
    settings = Settings()
    missing = Path(__file__).with_name("no such file")
    for is_reported in (False, True):
        if is_reported:
            monkeypatch.setattr(page_files, "MQTT_JS", missing)
        caplog.clear()
        banner.show_banner(settings, servers.broker, servers.page)
        cli_page.log_page(servers.page)
        shown = capsys.readouterr().out
        assert "mqtt-presence is up" in shown
        for text in (shown, caplog.text):
            assert ("MQTT.js is missing" in text and "apt-get install npm" in text) is is_reported
    banner.show_banner(settings, servers.broker, None)
    assert "MQTT.js" not in capsys.readouterr().out, "there is no page"


# Stop.


def test_up_stops_cleanly_while_clients_are_connected(tmp_path: Path) -> None:
    """Clients, idle connections, half a request and a client that reads nothing do not delay the exit."""
    with Page(tmp_path, "up") as page, contextlib.ExitStack() as sockets:
        device = sockets.enter_context(page.websocket())
        device.send(mqtt_connect("phone"))
        assert device.recv() == b"\x20\x02\0\0"
        device.send(SUBSCRIBE_BRIDGE)
        until(lambda: b'"online"' in device.recv(timeout=10))
        device.send(b"\x32\x20\0\x1apresence/alice/phone/login\0\1{}")
        until(lambda: b"\x40\2\0\1" in device.recv(timeout=10))  # perhaps with another packet
        sockets.enter_context(page.websocket())  # no CONNECT
        for sent in (b"", b"GET / HTTP/1.1\r\nHost:", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50):
            raw = sockets.enter_context(socket.create_connection(("127.0.0.1", page.port)))
            raw.sendall(sent)
        began = time.monotonic()
        assert page.stop() == 0
        assert time.monotonic() - began < 10
        received = b""
        with contextlib.suppress(ConnectionClosed):
            while True:
                received += device.recv(timeout=10)
        assert b'"offline"' in received  # the bridge's last message is delivered
        assert "Traceback" not in page.log()
        assert "error" not in page.log()
    with Page(tmp_path, "up") as again:
        (record,) = again.api("connections", open="false").json["connections"]
        assert (record["userId"], record["clientId"]) == ("alice", "phone")


def test_a_killed_browser_is_offline_at_once(servers: Servers) -> None:
    """When its socket closes, the broker publishes its will."""
    with Client(servers.broker.port, "bridge", "bridge-1", password="secret") as bridge:
        bridge._socket.sendall(b"\x82\x0f\0\1\0\x0apresence/#\1")
        assert bridge._read().kind == Kind.SUBACK
        with websocket(servers.port) as page:
            will = b"\0\x19presence/alice/phone/will\0\0"
            body = b"\0\4MQTT\4\x8e\0\x3c\0\5phone" + will + b"\0\5alice"
            page.send(bytes((0x10, len(body))) + body)
            assert page.recv() == b"\x20\x02\0\0"
            assert servers.broker.client_address("alice", "phone") == "127.0.0.1"
            page.socket.shutdown(socket.SHUT_RDWR)
        will_message = bridge._read()
        assert (will_message.kind, will_message.body[2:27]) == (Kind.PUBLISH, b"presence/alice/phone/will")


# Limits.


def test_connections_beyond_the_limit_are_closed(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open connections stay, silent ones included; when one ends, another client may connect."""
    monkeypatch.setattr(bounded_listener, "CONNECTIONS", 3)
    with contextlib.ExitStack() as sockets:
        inside = [sockets.enter_context(websocket(servers.port)) for _ in range(2)]
        silent = sockets.enter_context(socket.create_connection(("127.0.0.1", servers.port)))
        until(lambda: servers.connection_count == 3)
        for _ in range(5):
            raw = sockets.enter_context(socket.create_connection(("127.0.0.1", servers.port)))
            assert is_cut(raw)
        inside[0].send(mqtt_connect("phone"))
        assert inside[0].recv() == b"\x20\x02\0\0"
        assert servers.connection_count == 3
        silent.close()

        def is_answered() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return get(servers.port, "/").status == 200
            return False

        until(is_answered, "another client may connect")


def test_a_busy_server_answers_requests_with_503(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """WebSockets of pages that are loaded already are still accepted."""
    monkeypatch.setattr(server, "BUSY_CONNECTIONS", 4)
    with both(sqlite_url) as servers, contextlib.ExitStack() as sockets:
        for count in range(1, 7):
            page = sockets.enter_context(websocket(servers.port))
            page.send(mqtt_connect(f"phone-{count}"))
            assert page.recv() == b"\x20\x02\0\0"
            assert get(servers.port, "/").status == (200 if count < 3 else 503)
            until(lambda expected=count: servers.connection_count == expected)


def test_connections_without_another_request_are_closed(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A WebSocket is not such a connection."""
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.3)
    with both(sqlite_url) as servers, websocket(servers.port) as page:
        page.send(mqtt_connect("phone"))
        assert page.recv() == b"\x20\x02\0\0"
        with socket.create_connection(("127.0.0.1", servers.port)) as raw:
            raw.sendall(b"GET /api/config HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert raw.recv(12) == b"HTTP/1.1 200"
            assert is_cut(raw)
        page.send(b"\xc0\0")
        assert page.recv() == b"\xd0\0"


def test_long_heads_of_requests_are_refused(servers: Servers) -> None:
    """Whatever their length, they end after 16 KiB."""
    with socket.create_connection(("127.0.0.1", servers.port)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (server.HEAD_BYTES + 1))
        assert is_cut(raw)
    assert get(servers.port, "/").status == 200


def test_a_client_that_reads_nothing_is_disconnected_at_once(servers: Servers) -> None:
    """After a takeover the old connection ends, however much its client has still to read."""
    with raw_websocket(servers.port) as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.sendall(frame(mqtt_connect("phone")))
        greedy.settimeout(20)
        greedy.sendall(frame(b"x" * 125, opcode=9) * 80_000)  # their pongs fill the buffers of any kernel
        with websocket(servers.port) as other:
            other.send(mqtt_connect("phone"))
            assert other.recv() == b"\x20\x02\0\0"
            until(lambda: servers.connection_count == 1, "the old connection has ended")
            other.send(b"\xc0\0")
            assert other.recv() == b"\xd0\0"


def test_websockets_that_answer_no_ping_are_cut(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser on a sleeping machine is disconnected before its keep alive; one that answers stays."""
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


def test_websockets_that_ping_and_do_not_read_are_cut(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a client answers no ping of the server, so the pongs that wait for it stay bounded."""
    monkeypatch.setattr(server, "PING_S", 0.3)
    pings = frame(b"x" * 125, opcode=9) * 500
    with both(sqlite_url) as servers, raw_websocket(servers.port) as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.settimeout(20)
        with pytest.raises(ConnectionError):
            greedy.sendall(pings * 1000)  # 65 MB: more than any kernel keeps
        with websocket(servers.port) as other:
            other.send(mqtt_connect("other"))
            assert other.recv() == b"\x20\x02\0\0"


def test_queries_beyond_the_limit_are_refused(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is 503 with a time to retry."""
    monkeypatch.setattr(database_reader, "WAITING", 0)
    answer = get(servers.port, "/api/users")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    monkeypatch.setattr(database_reader, "WAITING", 1)
    assert get(servers.port, "/api/users").status == 200


# The broker's clients do not wait.


def flood(servers: Servers, done: threading.Event) -> None:
    """Send the smallest frames with the smallest packets as fast as possible."""
    with websocket(servers.port) as page:
        page.send(mqtt_connect("flood", "mallory"))
        assert page.recv() == b"\x20\x02\0\0"
        page.socket.settimeout(0.2)
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                page.socket.sendall(frame(b"\xc0\0") * 20_000)
        page.socket.shutdown(socket.SHUT_RDWR)


def ask_api(servers: Servers, done: threading.Event) -> None:
    while not done.is_set():
        assert get(servers.port, "/api/connections").status in {200, 503}


def test_a_busy_page_does_not_stall_the_broker(servers: Servers) -> None:
    """While a client floods its WebSocket and others the API, each ping of another client is answered soon."""
    done = threading.Event()
    threads = [threading.Thread(target=flood, args=(servers, done))]
    threads += [threading.Thread(target=ask_api, args=(servers, done)) for _ in range(2)]
    with Client(servers.broker.port, "alice", "phone") as device:
        for thread in threads:
            thread.start()
        try:
            took = []
            end = time.monotonic() + 3
            while time.monotonic() < end:
                began = time.monotonic()
                device._socket.sendall(b"\xc0\0")
                assert device._read().kind == Kind.PINGRESP
                took.append(time.monotonic() - began)
        finally:
            done.set()
            for thread in threads:
                thread.join(20)
    # A busy machine may delay one or two answers; a busy event loop delays all of them.
    assert sorted(took)[-3] < 0.3, sorted(took)[-10:]
