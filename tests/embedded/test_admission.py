"""Admission to the broker: passwords, client ids, ports, settings, WebSocket and addresses."""

import queue
import socket
import stat
import subprocess

import paho.mqtt.client as mqtt
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as websocket_connect

from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig, add_user, remove_user
from mqtt_presence.errors import BrokerError, ConfigError
from tests.embedded.brokers import SECRET, embedded_server
from tests.embedded.raw_client import connect_packet


@pytest.fixture(scope="module")
def server():
    with embedded_server(ws_port=0) as running:
        yield running


@pytest.fixture
def passwords(tmp_path):
    path = tmp_path / "passwords"
    add_user(path, "alice", "pw-alice")
    return path


def test_the_bridge_always_needs_its_secret(server):
    """The bridge's password is checked in open mode too."""
    assert server.raw_client().connect("bridge", "x") == 5
    assert server.raw_client().connect("bridge", "x", password="wrong") == 5
    assert server.raw_client().connect("bridge", "x", password=SECRET) == 0


def test_without_a_secret_the_bridge_cannot_log_in():
    """An empty bridge password matches no password."""
    with embedded_server(bridge_password="") as server:
        assert server.raw_client().connect("bridge", "x", password="") == 5


def test_a_password_file_makes_passwords_necessary(passwords):
    """The right password is accepted; a wrong one, a missing one and an unknown user are not."""
    with embedded_server(open=False, password_file=passwords) as server:
        assert server.raw_client().connect("alice", "a", password="pw-alice") == 0
        assert server.raw_client().connect("alice", "a", password="pw-alice") == 0  # remembered
        assert server.raw_client().connect("alice", "a", password="wrong") == 5
        assert server.raw_client().connect("alice", "a") == 5
        assert server.raw_client().connect("nobody", "n", password="pw-alice") == 5
        add_user(passwords, "bob", "pw-bob")
        add_user(passwords, "alice", "new")
        assert server.raw_client().connect("bob", "b", password="pw-bob") == 0
        assert server.raw_client().connect("alice", "a", password="pw-alice") == 5
        assert remove_user(passwords, "bob")
        assert server.raw_client().connect("bob", "b", password="pw-bob") == 5


def test_the_password_file_is_readable_by_its_owner_only(passwords):
    """The file has mode 0600 and argon2 hashes, no temporary file is left, and names fit into a line."""
    assert stat.S_IMODE(passwords.stat().st_mode) == 0o600
    assert passwords.read_text().startswith("alice:$argon2")
    assert [p.name for p in passwords.parent.iterdir()] == ["passwords"]
    for name in ("", "a/b", "a:b", "#a", " a", "a\n"):
        with pytest.raises(ConfigError, match="user="):
            add_user(passwords, name, "x")
    with pytest.raises(ConfigError, match="empty"):
        add_user(passwords, "bob", "")
    assert not remove_user(passwords, "nobody")


@pytest.mark.parametrize("persistent", [True, False])
def test_a_client_id_belongs_to_its_user(server, persistent):
    """Another user is refused (CONNACK 2) while the client is connected or its session is kept."""
    name = f"owned{persistent}"
    alice = server.client("alice", name, clean=not persistent)
    assert server.raw_client().connect("mallory", name) == 2
    alice.ping()
    alice.disconnect()
    bob = server.client("bob")
    bob.ping()
    assert server.raw_client().connect("mallory", name) == (2 if persistent else 0)
    if persistent:
        server.client("alice", name, clean=True).disconnect()
        bob.ping()
        assert server.raw_client().connect("mallory", name) == 0


def test_a_client_address_is_kept_after_the_connection(server):
    """The address is found by user and client."""
    server.client("alice", "addressed").disconnect()
    assert server.broker.client_address("alice", "addressed") == "127.0.0.1"
    assert server.broker.client_address("bob", "addressed") is None


def test_paho_works_over_a_websocket(server):
    """A WebSocket client logs in and reads its status, and its will is published when it is lost."""
    bridge = server.bridge(client_id="ws-bridge", clean=True)
    got = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="page", transport="websockets")
    client.username_pw_set("alice")
    client.will_set("presence/alice/page/will", "w", 1)
    client.on_connect = lambda *_: client.subscribe([("status/alice", 1), ("presence/#", 1)])
    client.on_subscribe = lambda *args: got.put([code.value for code in args[3]])
    client.on_message = lambda *args: got.put(args[2].payload)
    client.on_publish = lambda *_: got.put("acknowledged")
    client.connect("127.0.0.1", server.broker.ws_port)
    client.loop_start()
    try:
        assert got.get(timeout=5) == [1, 0x80]
        client.publish("presence/alice/page/login", "x" * 100_000, 1)
        assert len(bridge.message().payload) == 100_000
        assert got.get(timeout=5) == "acknowledged"
        bridge.publish("status/alice", "here")
        assert got.get(timeout=5) == b"here"
        client.socket().close()
        assert bridge.message().payload == b"w"
        bridge.disconnect()
    finally:
        client.loop_stop()


@pytest.mark.parametrize(("origin", "allowed"), [
    (None, True), ("http://localhost:8080", True), ("http://127.0.0.1", True), ("http://[::1]:80", True),
    ("https://evil.example", False), ("null", False),
])  # fmt: skip
def test_a_foreign_page_cannot_use_an_open_broker(server, origin, allowed):
    """A browser lets any web site connect to this machine, and without passwords any name is accepted."""
    url = f"ws://127.0.0.1:{server.broker.ws_port}/mqtt"
    if allowed:
        with websocket_connect(url, origin=origin, subprotocols=["mqtt"]) as page:
            page.send(connect_packet("alice", "page"))
            assert page.recv() == b"\x20\x02\x00\x00"
    else:
        with pytest.raises(InvalidStatus, match="403"):
            websocket_connect(url, origin=origin, subprotocols=["mqtt"])


def test_mqtt_5_clients_report_the_version(server):
    """mosquitto_pub reports the version and ends; paho reports it to on_connect."""
    done = subprocess.run(
        ["mosquitto_pub", "-V", "5", "-p", str(server.port), "-u", "alice", "-t", "x", "-m", "x"],
        capture_output=True, text=True, timeout=5, check=False,
    )  # fmt: skip
    assert "Unsupported Protocol Version" in done.stderr
    codes = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="five", protocol=mqtt.MQTTv5)
    client.on_connect = lambda *args: codes.put(str(args[3]))
    client.connect("127.0.0.1", server.port)
    client.loop_start()
    try:
        assert codes.get(timeout=5) == "Unsupported protocol version"
    finally:
        client.loop_stop()


def test_mosquitto_clients_work(server):
    """mosquitto_pub publishes a login, and mosquitto_sub reads a retained status."""
    bridge = server.bridge(client_id="tools", clean=True)
    pub = subprocess.Popen(
        ["mosquitto_pub", "-p", str(server.port), "-u", "alice", "-i", "cli", "-q", "1",
         "-t", "presence/alice/cli/login", "-m", "hi"],
    )  # fmt: skip
    assert bridge.message().payload == b"hi"
    assert pub.wait(5) == 0
    bridge.publish("status/tool", "here", retain=True)
    sub = ["mosquitto_sub", "-p", str(server.port), "-u", "bob", "-t", "status/tool", "-C", "1", "-W", "5"]
    assert subprocess.run(sub, capture_output=True, text=True, timeout=6, check=True).stdout == "here\n"


def test_a_port_in_use_is_named_with_the_remedy():
    """The error names the setting, and all sockets are closed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"port={port} on 127.0.0.1 is in use.*another port"):
            EmbeddedBroker(EmbeddedConfig(port=port)).start()
        broker = EmbeddedBroker(EmbeddedConfig(port=0, ws_port=port))
        with pytest.raises(BrokerError, match=rf"ws_port={port}.*in use"):
            broker.start()
    broker.start()
    assert broker.port
    assert broker.ws_port == port
    broker.stop()
    broker.start()
    broker.stop()


@pytest.mark.parametrize(("settings", "named"), [
    ({"host": "0.0.0.0"}, "insecure"), ({"host": ""}, "insecure"), ({"open": False}, "password_file"),
    ({"host": "::"}, "insecure"), ({"prefix": "a+/"}, "prefix"), ({"prefix": "$x/"}, "prefix"),
    ({"bridge_user": "a/b"}, "bridge_user"),
])  # fmt: skip
def test_a_wrong_setting_is_named(settings, named, tmp_path):
    """The ConfigError names the setting, and no port is opened."""
    with pytest.raises(ConfigError, match=named):
        EmbeddedBroker(EmbeddedConfig(port=0, **settings)).start()
    with pytest.raises(ConfigError, match="password_file"):
        EmbeddedBroker(EmbeddedConfig(port=0, open=False, password_file=tmp_path / "none")).start()


def test_insecure_listens_on_all_addresses():
    """A client's address is the IPv4 address on a dual-stack socket."""
    with embedded_server(host="0.0.0.0", insecure=True) as server:
        server.client("alice", "p")
        assert server.broker.client_address("alice", "p") == "127.0.0.1"


def test_a_slow_reader_uses_bounded_memory(server):
    """At QoS 0 the reader misses messages. At QoS 1, where a gap means a wrong status, it is disconnected."""
    bridge = server.client("bridge", "flood", password=SECRET)
    slow, slow_one, quick = (server.client("bob", name) for name in ("slow", "slow1", "quick"))
    slow.subscribe("status/flood", qos=0)
    slow_one.subscribe("status/flood", qos=1)
    quick.subscribe("status/flood", qos=1)
    for n in range(150):
        bridge.publish("status/flood", bytes(200_000) + str(n).encode(), qos=1)
        assert quick.message().payload.endswith(str(n).encode())
    got = [m.payload[200_000:] for m in slow.messages()]
    assert got[:5] == [str(n).encode() for n in range(5)]
    assert len(got) < 150
    slow.ping()
    assert slow_one.closed()
