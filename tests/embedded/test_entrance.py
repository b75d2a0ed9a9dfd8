"""Getting in: passwords, client ids, ports, settings, WebSocket, addresses."""

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
from tests.embedded.brokers import SECRET, ours
from tests.embedded.wire import connect_packet


@pytest.fixture(scope="module")
def house():
    with ours(ws_port=0) as running:
        yield running


@pytest.fixture
def passwords(tmp_path):
    path = tmp_path / "passwords"
    add_user(path, "alice", "pw-alice")
    return path


def test_the_bridge_always_needs_its_secret(house):
    """Even where everyone else gets in without a password."""
    assert house.wire().connect("bridge", "x") == 5
    assert house.wire().connect("bridge", "x", password="wrong") == 5
    assert house.wire().connect("bridge", "x", password=SECRET) == 0


def test_without_a_secret_nobody_is_the_bridge():
    """An empty bridge password is none, not one that anybody knows."""
    with ours(bridge_password="") as house:
        assert house.wire().connect("bridge", "x", password="") == 5


def test_passwords_are_asked_where_there_is_a_file(passwords):
    """The right one gets in; a wrong one, none, and an unknown user do not."""
    with ours(open=False, password_file=passwords) as house:
        assert house.wire().connect("alice", "a", password="pw-alice") == 0
        assert house.wire().connect("alice", "a", password="pw-alice") == 0  # remembered
        assert house.wire().connect("alice", "a", password="wrong") == 5
        assert house.wire().connect("alice", "a") == 5
        assert house.wire().connect("nobody", "n", password="pw-alice") == 5
        add_user(passwords, "bob", "pw-bob")
        add_user(passwords, "alice", "new")
        assert house.wire().connect("bob", "b", password="pw-bob") == 0
        assert house.wire().connect("alice", "a", password="pw-alice") == 5
        assert remove_user(passwords, "bob")
        assert house.wire().connect("bob", "b", password="pw-bob") == 5


def test_the_password_file_is_the_owners_alone(passwords):
    """Mode 0600, argon2, nothing left beside it, and no name that would break a line."""
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
def test_a_client_id_belongs_to_its_user(house, persistent):
    """Another user is refused (CONNACK 2) while it is connected, or its session is kept; then it is free."""
    name = f"owned{persistent}"
    alice = house.client("alice", name, clean=not persistent)
    assert house.wire().connect("mallory", name) == 2
    alice.ping()
    alice.disconnect()
    bob = house.client("bob")
    bob.ping()
    assert house.wire().connect("mallory", name) == (2 if persistent else 0)
    if persistent:
        house.client("alice", name, clean=True).disconnect()
        bob.ping()
        assert house.wire().connect("mallory", name) == 0


def test_the_peer_address_is_known_while_and_after(house):
    """By user and client, over both transports."""
    house.client("alice", "addressed").disconnect()
    assert house.broker.client_address("alice", "addressed") == "127.0.0.1"
    assert house.broker.client_address("bob", "addressed") is None


def test_paho_over_websocket_lives_by_the_same_rules(house):
    """A WebSocket client logs in, reads its status, and its will goes out when it is gone."""
    bridge = house.bridge(client_id="ws-bridge", clean=True)
    got = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="page", transport="websockets")
    client.username_pw_set("alice")
    client.will_set("presence/alice/page/will", "w", 1)
    client.on_connect = lambda *_: client.subscribe([("status/alice", 1), ("presence/#", 1)])
    client.on_subscribe = lambda *args: got.put([code.value for code in args[3]])
    client.on_message = lambda *args: got.put(args[2].payload)
    client.on_publish = lambda *_: got.put("acknowledged")
    client.connect("127.0.0.1", house.broker.ws_port)
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
def test_a_foreign_page_cannot_use_an_open_broker(house, origin, allowed):
    """A browser would let any web site connect to this machine; without passwords that is everyone's presence."""
    url = f"ws://127.0.0.1:{house.broker.ws_port}/mqtt"
    if allowed:
        with websocket_connect(url, origin=origin, subprotocols=["mqtt"]) as page:
            page.send(connect_packet("alice", "page"))
            assert page.recv() == b"\x20\x02\x00\x00"
    else:
        with pytest.raises(InvalidStatus, match="403"):
            websocket_connect(url, origin=origin, subprotocols=["mqtt"])


def test_a_version_five_client_says_what_is_wrong(house):
    """mosquitto_pub reports the version and ends; paho reports it to on_connect."""
    done = subprocess.run(
        ["mosquitto_pub", "-V", "5", "-p", str(house.port), "-u", "alice", "-t", "x", "-m", "x"],
        capture_output=True, text=True, timeout=5, check=False,
    )  # fmt: skip
    assert "Unsupported Protocol Version" in done.stderr
    codes = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="five", protocol=mqtt.MQTTv5)
    client.on_connect = lambda *args: codes.put(str(args[3]))
    client.connect("127.0.0.1", house.port)
    client.loop_start()
    try:
        assert codes.get(timeout=5) == "Unsupported protocol version"
    finally:
        client.loop_stop()


def test_mosquitto_clients_work(house):
    """The everyday tools: publish a login, read a retained status."""
    bridge = house.bridge(client_id="tools", clean=True)
    pub = subprocess.Popen(
        ["mosquitto_pub", "-p", str(house.port), "-u", "alice", "-i", "cli", "-q", "1",
         "-t", "presence/alice/cli/login", "-m", "hi"],
    )  # fmt: skip
    assert bridge.message().payload == b"hi"
    assert pub.wait(5) == 0
    bridge.publish("status/tool", "here", retain=True)
    sub = ["mosquitto_sub", "-p", str(house.port), "-u", "bob", "-t", "status/tool", "-C", "1", "-W", "5"]
    assert subprocess.run(sub, capture_output=True, text=True, timeout=6, check=True).stdout == "here\n"


def test_a_port_in_use_is_named_with_the_remedy():
    """And nothing is left half open."""
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
    """ConfigError says which setting, and no port is opened."""
    with pytest.raises(ConfigError, match=named):
        EmbeddedBroker(EmbeddedConfig(port=0, **settings)).start()
    with pytest.raises(ConfigError, match="password_file"):
        EmbeddedBroker(EmbeddedConfig(port=0, open=False, password_file=tmp_path / "none")).start()


def test_insecure_listens_everywhere():
    """Whoever says insecure gets it, and a client's address is the IPv4 one."""
    with ours(host="0.0.0.0", insecure=True) as house:
        house.client("alice", "p")
        assert house.broker.client_address("alice", "p") == "127.0.0.1"


def test_a_slow_reader_costs_bounded_memory_and_the_others_nothing(house):
    """At QoS 0 it misses messages; at QoS 1, where a gap would be a wrong status, it is disconnected."""
    bridge = house.client("bridge", "flood", password=SECRET)
    slow, slow_one, quick = (house.client("bob", name) for name in ("slow", "slow1", "quick"))
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
