"""The messages at the end of a connection: one end for each, before the client's next message."""

import signal
import subprocess
import sys
import threading

import pytest

from tests.embedded.brokers import SECRET, embedded_server
from tests.embedded.scenarios import LOGIN, WILL, verbs_and_payloads

ID1 = '{"connectionId":"c1"}'
ID2 = '{"connectionId":"c2"}'


@pytest.fixture
def server():
    with embedded_server() as running:
        yield running


def test_a_frozen_client_is_offline_after_one_and_a_half_keep_alives(server):
    """After SIGSTOP the process and its socket stay, and the will is published."""
    bridge = server.bridge()
    code = (
        "import sys, paho.mqtt.client as m\n"
        "c = m.Client(m.CallbackAPIVersion.VERSION2, client_id='phone')\n"
        "c.username_pw_set('alice')\n"
        f"c.will_set('{WILL}', 'w', 1)\n"
        f"c.on_connect = lambda *a: c.publish('{LOGIN}', '', 1)\n"
        f"c.connect('127.0.0.1', {server.port}, keepalive=1)\n"
        "c.loop_forever()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        assert verbs_and_payloads([bridge.message()]) == [("login", "")]
        process.send_signal(signal.SIGSTOP)
        assert verbs_and_payloads([bridge.message(4)]) == [("will", "w")]
    finally:
        process.kill()
        process.wait()


def test_a_client_that_pings_stays_connected(server):
    """The keep alive counts from the last packet, and 0 turns it off."""
    bridge = server.bridge()
    alice, bob = server.client(keep_alive=1, will=(WILL, "w")), server.client("bob", "tv", keep_alive=0)
    for _ in range(4):
        assert bridge.messages(0.6) == []
        alice.ping()
    bob.ping()


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize(("will", "end"), [((WILL, ID1), ("will", ID1)), (None, ("will", ID1))])
def test_a_takeover_publishes_the_old_end_before_the_new_login(server, clean, will, end):
    """The old will, or the broker's end message without one, precedes the new login; the old socket closes."""
    bridge = server.bridge()
    old = server.client(will=will, clean=clean)
    old.publish(LOGIN, ID1)
    new = server.client(clean=clean)
    new.publish(LOGIN, ID2)
    assert verbs_and_payloads(bridge.messages()) == [("login", ID1), end, ("login", ID2)]
    assert old.closed(1)
    new.ping()


def test_the_last_packets_are_read_before_a_takeover(server):
    """A logout and DISCONNECT just before the next CONNECT count as a logout."""
    bridge = server.bridge()
    for _ in range(10):
        old = server.client(will=(WILL, ID1))
        old.publish(LOGIN, ID1)
        assert bridge.message().topic == LOGIN
        old.publish("presence/alice/phone/logout", ID1)
        old.disconnect()
        new = server.client()
        assert verbs_and_payloads(bridge.messages(0.05)) == [("logout", ID1)] * 2
        new.disconnect()


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ("", ""),
        (ID1, ID1),
        ('{"connectionId":5}', None),
        ('{"connectionId":"\\u0000"}', None),
        ("junk", None),
    ],
)
def test_the_broker_publishes_an_end_for_a_client_without_will(server, login, expected):
    """The end has the login's connection id, or none; a login that the bridge refuses gets no end."""
    bridge, alice = server.bridge(), server.client()
    alice.publish(LOGIN, login)
    alice.kill()
    ends = [] if expected is None else [("will", expected)]
    assert verbs_and_payloads(bridge.messages()) == [("login", login), *ends]


@pytest.mark.parametrize(("will", "expected"), [
    ((WILL, ID1), [("will", ID1)]),
    ((WILL, ""), [("will", "")]),
    ((WILL, ID2), [("will", ID2), ("will", ID1)]),
    (("presence/alice/phone/activity", ID1), [("activity", ID1), ("will", ID1)]),
])  # fmt: skip
def test_a_will_that_ends_no_record_is_followed_by_an_end(server, will, expected):
    """A will with an earlier connection id, or on another topic, would leave the client online."""
    bridge, alice = server.bridge(), server.client(will=will)
    alice.publish(LOGIN, ID1)
    alice.kill()
    assert verbs_and_payloads(bridge.messages()) == [("login", ID1), *expected]


def test_a_record_opened_by_a_heartbeat_gets_an_end(server):
    """An activity without a login opens a record (rule A2), which gets an end too."""
    bridge, alice = server.bridge(), server.client()
    alice.publish("presence/alice/phone/activity", ID1, qos=0)
    alice.disconnect()
    assert verbs_and_payloads(bridge.messages()) == [("activity", ID1), ("logout", ID1)]


def test_a_client_without_a_record_gets_no_end(server):
    """A watcher that disconnects, or is lost, causes no message."""
    bridge = server.bridge()
    watcher = server.client("bob", "tv")
    watcher.subscribe("status/#")
    watcher.disconnect()
    server.client("bob", "tv").kill()
    assert bridge.messages() == []


def test_the_end_has_the_connection_id_of_the_last_login(server):
    """A second login on one connection replaces the first."""
    bridge, alice = server.bridge(), server.client()
    alice.publish(LOGIN, ID1)
    alice.publish(LOGIN, ID2)
    alice.kill()
    assert verbs_and_payloads(bridge.messages())[-1] == ("will", ID2)


def test_a_will_at_qos_0_reaches_an_absent_bridge(server):
    """Without it a client would stay online because the bridge was absent for a moment."""
    bridge = server.bridge()
    alice = server.client(will=(WILL, "w", 0))
    bridge.kill()
    alice.kill()
    server.client("bob", "tv").ping()
    bridge = server.client("bridge", "bridge-4711", clean=False, password=SECRET)
    assert verbs_and_payloads(bridge.messages()) == [("will", "w")]


def test_the_will_of_the_bridge_is_retained(server):
    """A later subscriber to `bridge/state` gets the bridge's offline message."""
    bridge = server.client("bridge", "b", password=SECRET, will=("bridge/state", "offline", 1, True))
    alice = server.client()
    alice.subscribe("bridge/+")
    bridge.kill()
    assert alice.message().payload == b"offline"
    bob = server.client("bob", "tv")
    bob.subscribe("bridge/+")
    assert bob.message().retain


def test_a_second_connect_ends_the_connection(server):
    """A second CONNECT is a protocol error (MQTT 3.1.1 §3.1), and the will is published."""
    bridge, alice = server.bridge(), server.client(will=(WILL, "w"))
    alice.send(b"\x10\x00")
    assert verbs_and_payloads([bridge.message()]) == [("will", "w")]


def test_a_stop_waits_for_the_bridge():
    """Wills and logouts go to the bridge, its statuses still reach watchers, then all connections close."""
    with embedded_server() as server:
        bridge = server.bridge()
        server.client(will=(WILL, "w"))
        bob = server.client("bob", "tv")
        bob.publish("presence/bob/tv/login", ID1)
        bridge.message()
        watcher = server.client("carol", "pc")
        watcher.subscribe("status/#")
        drain = threading.Thread(target=server.broker.drain)
        drain.start()
        ends = [bridge.message(ack=False) for _ in range(2)]
        assert sorted(verbs_and_payloads(ends)) == [("will", "w"), ("will", ID1)]
        drain.join(0.2)
        assert drain.is_alive(), "the bridge has not committed yet"
        bridge.publish("status/alice", "offline")
        for message in ends:
            bridge.ack(message)
        drain.join(2)
        assert not drain.is_alive()
        assert watcher.message().payload == b"offline"
        server.stop()
        assert watcher.closed(1)
        assert bridge.closed(1)
        server.stop()


def test_a_stop_without_a_bridge_does_not_wait():
    """Without a bridge the broker and its thread end at once."""
    with embedded_server() as server:
        server.client(will=(WILL, "w"))
        server.stop()
        assert not any(t.name == "mqtt-broker" for t in threading.enumerate())
        assert server.clients[0].closed(1)
