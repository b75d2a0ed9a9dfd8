"""The web server as it is run: `up`, and `run --web` beside mosquitto."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from mqtt_presence import __version__
from tests.support.waiting import until
from tests.support.web import Page, mqtt_connect


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Run `up` with an open broker, for tests that change no setting."""
    with Page(tmp_path_factory.mktemp("up"), "up") as page:
        yield page


class Browser:
    """MQTT over the page's WebSocket, by paho, as a presence client and a subscriber."""

    def __init__(self, page: Page, user: str, client_id: str, password: str | None = None) -> None:
        self.statuses: dict[str, Any] = {}
        self.bridge: list[str] = []
        self.refused: list[Any] = []
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, transport="websockets"
        )
        self.client.ws_set_options(path="/mqtt")
        self.client.username_pw_set(user, password)
        self.client.will_set(f"presence/{user}/{client_id}/will", b'{"connectionId":"c1"}', qos=1)
        self.client.on_connect = self._on_connect
        self.client.on_message = self._on_message
        self._login = f"presence/{user}/{client_id}/login"
        self.client.connect("127.0.0.1", page.port)
        self.client.loop_start()

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self.refused.append(reason)
            return
        client.subscribe([("status/+", 1), ("bridge/+", 1)])
        client.publish(self._login, b'{"connectionId":"c1","userAgent":"tests"}', qos=1)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if message.topic.startswith("status/"):
            self.statuses[message.topic.removeprefix("status/")] = json.loads(message.payload)
        elif message.topic == "bridge/state":
            self.bridge.append(json.loads(message.payload)["state"])

    def sees(self, user: str, state: str) -> Any:
        return until(
            lambda: self.statuses.get(user, {}).get("state") == state, f"{user} is {state}: {self.statuses}"
        )

    def lose(self) -> None:
        """Close the socket without a DISCONNECT."""
        self.client.loop_stop()
        sock = self.client.socket()
        assert sock is not None
        sock._socket.close()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_mqtt_over_the_page_is_presence(up: Page) -> None:
    """A login over the page's WebSocket makes a user online; the will after a loss makes it offline."""
    watcher = Browser(up, "watcher", "watcher-1")
    alice = Browser(up, "alice", "alice-1")
    try:
        watcher.sees("alice", "online")
        until(lambda: watcher.bridge == ["online"])
        found = up.api("users", "alice", "connections").json["connections"]
        assert [(c["clientId"], c["connectionId"], c["ipAddr"], c["userAgent"]) for c in found] == [
            ("alice-1", "c1", "127.0.0.1", "tests")
        ]
        alice.lose()
        watcher.sees("alice", "offline")
        ended = up.api("connections", open="false").json["connections"]
        assert ("alice", "c1", "lost") in [(c["userId"], c["connectionId"], c["reason"]) for c in ended]
    finally:
        watcher.close()


# What is served.


def test_files_are_compressed_for_browsers_that_accept_it(up: Page) -> None:
    """A library takes a third of the bytes, and its ETag is still answered with 304."""
    plain = up.get("/static/vendor/mqtt.esm.js")
    packed = up.get("/static/vendor/mqtt.esm.js", accept_encoding="gzip, br")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["content-type"] == plain.headers["content-type"]
    assert "accept-encoding" in packed.headers["vary"].lower()
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 3
    again = up.get("/static/vendor/mqtt.esm.js", if_none_match=packed.headers["etag"], accept_encoding="gzip")
    assert (again.status, again.body) == (304, b"")


def test_page_is_served_with_a_strict_policy(up: Page) -> None:
    """The page and its modules have one URL, and the policy allows no other server."""
    page = up.get("/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    expected = {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-cache",
    }
    assert page.headers.items() >= expected.items()
    directives = dict(d.split(" ", 1) for d in page.headers["content-security-policy"].split("; "))
    assert directives == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "font-src": "'self'",
        "manifest-src": "'self'",
        "connect-src": f"'self' ws://127.0.0.1:{up.port} wss://127.0.0.1:{up.port}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    again = up.get("/", if_none_match=page.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert up.get("/", method="HEAD").headers["content-length"] == str(len(page.body))


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing", "GET", 404),
        ("/static/../server.py", "GET", 404),
        ("/static/%2e%2e/server.py", "GET", 404),
        ("/static/..%2fserver.py", "GET", 404),
        ("/static/", "GET", 404),
        ("/static//etc/passwd", "GET", 404),
        ("/api", "GET", 404),
        ("/api/users/a%2Fb/connections", "GET", 404),
        ("/api/users", "POST", 405),
        ("/", "DELETE", 405),
        ("/mqtt", "GET", 426),
    ],
)
def test_other_requests_are_refused_in_json(up: Page, path: str, method: str, status: int) -> None:
    """The refusals have the security headers, too."""
    answer = up.get(path, method=method)
    assert answer.status == status
    assert answer.json["error"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_config_has_the_settings_of_the_page(up: Page) -> None:
    answer = up.api("config")
    assert answer.headers["cache-control"] == "no-store"
    config = answer.json
    assert isinstance(config.pop("mqttJs"), bool)
    assert config == {
        "mqttUrl": "mqtt",
        "open": True,
        "prefix": "",
        "operator": True,
        "scope": "operator",
        "operatorBy": [],
        "private": False,
        "version": __version__,
        "mqttPort": up.mqtt_port,
    }


# Who is kept out.


@pytest.mark.parametrize("path", ["/", "/static/index.html", "/api/config", "/api/users"])
def test_other_names_and_other_pages_are_refused(up: Page, path: str) -> None:
    """DNS rebinding and pages of other sites are refused."""
    assert up.get(path, host=f"evil.example:{up.port}").status == 421
    assert "web_origin=https://evil" in up.get(path, host="evil").json["error"]
    assert up.get(path, origin="http://evil.example").status == 403
    assert up.get(path, host="").status == 421
    assert up.get(path, host=f"localhost:{up.port}", origin=f"http://localhost:{up.port}").status == 200


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example"}, 421),
        ({"subprotocol": None}, 400),
        ({"subprotocol": "mqttv3.1"}, 400),
    ],
)
def test_websockets_of_other_pages_are_refused(up: Page, how: dict[str, Any], status: int) -> None:
    """The refusal answers the handshake."""
    with pytest.raises(InvalidStatus) as caught:
        up.websocket(**how)
    assert caught.value.response.status_code == status
    assert json.loads(caught.value.response.body)["error"]


def test_websockets_of_the_own_page_are_accepted(up: Page) -> None:
    with up.websocket(origin=f"http://127.0.0.1:{up.port}") as own:
        assert own.subprotocol == "mqtt"
    with up.websocket() as none:  # no page at all
        assert none.subprotocol == "mqtt"


def test_proxied_requests_are_not_an_operators(up: Page) -> None:
    """Visitors through a proxy on this machine are not operators."""
    for trace in (
        {"x_forwarded_for": "203.0.113.7"},
        {"forwarded": "for=x"},
        {"via": "x"},
        {"version": "HTTP/1.0"},
    ):
        answer = up.get("/api/users", **trace)
        assert answer.status == 403, trace
        assert "set web_token" in answer.json["error"]
        assert up.get("/api/config", **trace).json["operator"] is False
        assert up.get("/", **trace).status == 200


# What a WebSocket may not do.


def end_of(socket: ClientConnection, *messages: Any) -> int | None:
    """Send messages until the server closes; return its close code, None without one."""
    try:
        for message in messages:
            socket.send(message)
        while True:
            socket.recv(timeout=10)
    except ConnectionClosed as closed:
        return None if closed.rcvd is None else closed.rcvd.code


@pytest.mark.parametrize("connected", [True, False])
def test_oversized_frames_end_the_connection(up: Page, connected: bool) -> None:
    """A message longer than the longest packet is refused with 1009 before its end."""
    with up.websocket() as socket:
        if connected:
            socket.send(mqtt_connect("big"))
            assert socket.recv() == b"\x20\x02\0\0"
        assert end_of(socket, iter([b"x" * 100_000] * 3)) == 1009


@pytest.mark.parametrize(
    "message",
    [
        "text",
        b"\x30\xff\xff\x7f" + b"x" * 1000,  # a packet over the limit, in a small frame
        b"\xff" * 20,
    ],
)
def test_invalid_mqtt_ends_the_connection(up: Page, message: Any) -> None:
    with up.websocket() as socket:
        socket.send(mqtt_connect("odd"))
        assert socket.recv() == b"\x20\x02\0\0"
        end_of(socket, message)


def test_packets_may_span_frames_and_share_them(up: Page) -> None:
    """MQTT is a stream of bytes in frames of any size [MQTT-6.0.0-2]."""
    with up.websocket() as socket:
        for byte in mqtt_connect("pieces"):
            socket.send(bytes((byte,)))
        assert socket.recv() == b"\x20\x02\0\0"
        socket.send(b"\xc0\0" * 3000)
        got = b""
        while len(got) < 6000:
            got += socket.recv(timeout=10)
        assert got == b"\xd0\0" * 3000
