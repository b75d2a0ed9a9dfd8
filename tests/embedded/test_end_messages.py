"""How connections end, as the bridge hears it: one end for each, before whatever comes next."""

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
    """SIGSTOP: the process lives, its socket is open, and its will goes out."""
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


def test_a_client_that_pings_stays(server):
    """The keep alive counts from the last packet; 0 asks for none."""
    bridge = server.bridge()
    alice, bob = server.client(keep_alive=1, will=(WILL, "w")), server.client("bob", "tv", keep_alive=0)
    for _ in range(4):
        assert bridge.messages(0.6) == []
        alice.ping()
    bob.ping()


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize(("will", "end"), [((WILL, ID1), ("will", ID1)), (None, ("will", ID1))])
def test_a_takeover_ends_the_old_before_the_new_begins(server, clean, will, end):
    """The old will, or the broker's own word where there is none, then the new login; the old socket closes."""
    bridge = server.bridge()
    old = server.client(will=will, clean=clean)
    old.publish(LOGIN, ID1)
    new = server.client(clean=clean)
    new.publish(LOGIN, ID2)
    assert verbs_and_payloads(bridge.messages()) == [("login", ID1), end, ("login", ID2)]
    assert old.closed(1)
    new.ping()


def test_what_the_old_connection_said_last_is_heard_before_it_is_taken_over(server):
    """A logout and DISCONNECT just before the next CONNECT are a logout, not a loss."""
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
    ("login", "told"),
    [
        ("", ""),
        (ID1, ID1),
        ('{"connectionId":5}', None),
        ('{"connectionId":"\\u0000"}', None),
        ("junk", None),
    ],
)
def test_the_broker_tells_the_end_of_a_connection_without_will(server, login, told):
    """With the login's id; without one, empty; not at all for a login the bridge refuses."""
    bridge, alice = server.bridge(), server.client()
    alice.publish(LOGIN, login)
    alice.kill()
    ends = [] if told is None else [("will", told)]
    assert verbs_and_payloads(bridge.messages()) == [("login", login), *ends]


@pytest.mark.parametrize(("will", "told"), [
    ((WILL, ID1), [("will", ID1)]),
    ((WILL, ""), [("will", "")]),
    ((WILL, ID2), [("will", ID2), ("will", ID1)]),
    (("presence/alice/phone/activity", ID1), [("activity", ID1), ("will", ID1)]),
])  # fmt: skip
def test_a_will_that_does_not_end_the_record_is_followed_by_one_that_does(server, will, told):
    """A will of an earlier connection's id, or on another topic, would leave the client online for ever."""
    bridge, alice = server.bridge(), server.client(will=will)
    alice.publish(LOGIN, ID1)
    alice.kill()
    assert verbs_and_payloads(bridge.messages()) == [("login", ID1), *told]


def test_a_heartbeat_alone_opens_a_record_and_so_has_an_end(server):
    """Contract A2: an activity without a login opens a record; the broker tells its end too."""
    bridge, alice = server.bridge(), server.client()
    alice.publish("presence/alice/phone/activity", ID1, qos=0)
    alice.disconnect()
    assert verbs_and_payloads(bridge.messages()) == [("activity", ID1), ("logout", ID1)]


def test_a_client_that_said_nothing_leaves_nothing(server):
    """A watcher has no record: its going is no message."""
    bridge = server.bridge()
    watcher = server.client("bob", "tv")
    watcher.subscribe("status/#")
    watcher.disconnect()
    server.client("bob", "tv").kill()
    assert bridge.messages() == []


def test_the_end_tells_the_id_of_the_last_login(server):
    """A second login on one connection replaces the first; the end names the second."""
    bridge, alice = server.bridge(), server.client()
    alice.publish(LOGIN, ID1)
    alice.publish(LOGIN, ID2)
    alice.kill()
    assert verbs_and_payloads(bridge.messages())[-1] == ("will", ID2)


def test_a_will_at_quality_zero_reaches_an_absent_bridge(server):
    """Nobody is online for ever because the bridge was away for a moment."""
    bridge = server.bridge()
    alice = server.client(will=(WILL, "w", 0))
    bridge.kill()
    alice.kill()
    server.client("bob", "tv").ping()
    bridge = server.client("bridge", "bridge-4711", clean=False, password=SECRET)
    assert verbs_and_payloads(bridge.messages()) == [("will", "w")]


def test_the_will_of_the_bridge_is_retained(server):
    """`bridge/state` says offline to whoever subscribes later."""
    bridge = server.client("bridge", "b", password=SECRET, will=("bridge/state", "offline", 1, True))
    alice = server.client()
    alice.subscribe("bridge/+")
    bridge.kill()
    assert alice.message().payload == b"offline"
    bob = server.client("bob", "tv")
    bob.subscribe("bridge/+")
    assert bob.message().retain


def test_a_second_connect_on_a_connection_is_an_end(server):
    """MQTT 3.1.1 §3.1: a protocol error; the will goes out."""
    bridge, alice = server.bridge(), server.client(will=(WILL, "w"))
    alice.send(b"\x10\x00")
    assert verbs_and_payloads([bridge.message()]) == [("will", "w")]


def test_stop_waits_until_the_bridge_has_the_last_words():
    """Wills and logouts go to the bridge, its answer still reaches the watchers, then everything closes."""
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


def test_stop_without_a_bridge_does_not_wait():
    """Nobody is there to commit: the broker is gone at once, and its thread too."""
    with embedded_server() as server:
        server.client(will=(WILL, "w"))
        server.stop()
        assert not any(t.name == "mqtt-broker" for t in threading.enumerate())
        assert server.clients[0].closed(1)
