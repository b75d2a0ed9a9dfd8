"""Acknowledgements of clients' messages, which are held back until the bridge has acknowledged."""

import pytest

from tests.embedded.brokers import SECRET, embedded_server
from tests.embedded.raw_client import Packet

LOGIN = "presence/alice/phone/login"


@pytest.fixture
def server():
    with embedded_server() as running:
        yield running


def acks(packets: list[Packet]) -> list[int]:
    return [p.packet_id for p in packets if p.kind == 4]


def test_pings_are_answered_while_messages_wait_for_the_bridge(server):
    """Acknowledgements of 200 messages in flight follow the bridge's acknowledgements."""
    bridge, alice = server.bridge(), server.client()
    ids = [alice.publish(LOGIN, str(n)) for n in range(200)]
    messages = [bridge.message(ack=False) for _ in ids]
    assert acks(alice.ping()) == []
    assert [m.payload for m in messages] == [str(n).encode() for n in range(200)]
    for message in messages:
        bridge.ack(message)
    assert [alice.until(4).packet_id for _ in ids] == ids


def test_an_acknowledgement_waits_for_an_absent_bridge(server):
    """The bridge's persistent session gets the message first, then the publisher its PUBACK."""
    bridge, alice = server.bridge(), server.client()
    first = alice.publish(LOGIN, "seen")
    bridge.message(ack=False)
    bridge.kill()
    second = alice.publish(LOGIN, "unseen")
    assert acks(alice.ping()) == []
    bridge = server.client("bridge", "bridge-4711", clean=False, password=SECRET)
    assert bridge.session_present
    messages = [bridge.message(ack=False) for _ in range(2)]
    assert [m.payload for m in messages] == [b"seen", b"unseen"]
    assert messages[0].dup
    assert acks(alice.ping()) == []
    for message in messages:
        bridge.ack(message)
    assert [alice.until(4).packet_id, alice.until(4).packet_id] == [first, second]


def test_messages_before_the_first_bridge_are_kept_for_it(server):
    """After a restart clients may return before the bridge: their messages are kept and not acknowledged early."""
    alice = server.client(will=("presence/alice/phone/will", "w"))
    packet_id = alice.publish(LOGIN, "early")
    assert acks(alice.ping()) == []
    bridge = server.bridge()
    assert bridge.message().payload == b"early"
    assert alice.until(4).packet_id == packet_id


def test_messages_of_an_ended_bridge_session_go_to_the_next_bridge(server):
    """The messages of a clean bridge session that ends go to the next bridge, in order."""
    bridge, alice = server.bridge(clean=True), server.client()
    ids = [alice.publish(LOGIN, str(n)) for n in range(3)]
    for _ in ids:
        bridge.message(ack=False)
    bridge.kill()
    alice.publish(LOGIN, "3")
    alice.ping()
    other = server.bridge(client_id="another", clean=True)
    assert [m.payload for m in other.messages()] == [b"0", b"1", b"2", b"3"]
    assert acks(alice.ping())[:3] == ids


def test_a_repeated_message_is_delivered_once_while_it_waits(server):
    """A publisher that repeats an unacknowledged message gets one acknowledgement, the bridge one message."""
    bridge, alice = server.bridge(), server.client()
    packet_id = alice.publish(LOGIN, "x")
    alice.publish(LOGIN, "x", packet_id=packet_id, dup=True)
    message = bridge.message(ack=False)
    assert alice.ping() == []
    assert bridge.ping() == []
    bridge.ack(message)
    assert alice.until(4).packet_id == packet_id
    assert alice.ping() == []


def test_an_acknowledgement_never_reaches_a_later_connection(server):
    """The commit of an old connection's message acknowledges no message of the new connection."""
    bridge, alice = server.bridge(), server.client()
    alice.publish(LOGIN, "", packet_id=7)
    old = bridge.message(ack=False)
    again = server.client()
    again.publish(LOGIN, "", packet_id=7)
    seen = [bridge.message(ack=False) for _ in range(2)]
    assert [m.topic for m in seen] == ["presence/alice/phone/will", LOGIN]
    bridge.ack(old)
    bridge.ping()
    assert again.ping() == []
    for message in seen:
        bridge.ack(message)
    assert again.until(4).packet_id == 7


def test_qos_2_is_acknowledged_after_the_commit(server):
    """PUBREC is held back like PUBACK, and the message is delivered once."""
    bridge, alice = server.bridge(), server.client()
    packet_id = alice.publish(LOGIN, "x", qos=2)
    message = bridge.message(ack=False)
    assert message.qos == 1
    assert alice.ping() == []
    bridge.ack(message)
    assert alice.until(5).packet_id == packet_id
    alice.publish(LOGIN, "x", qos=2, packet_id=packet_id, dup=True)
    assert alice.until(5).packet_id == packet_id
    alice.send(b"\x62\x02" + packet_id.to_bytes(2))
    assert alice.until(7).packet_id == packet_id
    assert bridge.ping() == []


def test_messages_beyond_the_window_wait_in_order(server):
    """The bridge gets further messages as it acknowledges, all of them, and heartbeats keep their place."""
    bridge, alice = server.bridge(), server.client()
    for n in range(1200):
        alice.publish(LOGIN, str(n))
    alice.publish("presence/alice/phone/activity", "last", qos=0)
    alice.ping()
    got = [bridge.message().payload for _ in range(1201)]
    assert got == [str(n).encode() for n in range(1200)] + [b"last"]


def test_persistent_sessions_get_missed_messages(server):
    """An absent persistent session keeps QoS 1 messages in order and drops QoS 0; a clean session keeps none."""
    bridge = server.client("bridge", "b", password=SECRET)
    alice = server.client(clean=False)
    alice.subscribe("status/+")
    alice.disconnect()
    for n in range(3):
        bridge.publish("status/x", str(n))
    bridge.publish("status/x", "qos 0", qos=0)
    bridge.ping()
    again = server.client(clean=False)
    assert again.session_present
    assert [m.payload for m in again.messages()] == [b"0", b"1", b"2"]
    assert not server.client(clean=True).session_present
    assert not server.client(clean=False).session_present


def test_retained_statuses_do_not_displace_new_ones(server):
    """A new subscriber gets more statuses than its queue holds, and never an older one after a newer one."""
    bridge = server.client("bridge", "b", password=SECRET)
    for n in range(12_000):
        bridge.publish(f"status/u{n}", "old", qos=0, retain=True)
    bridge.ping()
    alice = server.client()
    alice.subscribe("status/#")
    for n in range(50):
        bridge.publish(f"status/u{n}", "new", qos=0, retain=True)
        bridge.publish(f"status/u{n}", "newer", qos=1, retain=True)
    received: dict[str, list[bytes]] = {}
    live = 0
    while live < 100 or len(received) < 12_000:
        message = alice.message()
        live += not message.retain
        received.setdefault(message.topic, []).append(message.payload)
    order = [b"old", b"new", b"newer"]
    for payloads in received.values():
        assert [order.index(p) for p in payloads] == sorted(order.index(p) for p in payloads)
    assert all(received[f"status/u{n}"][-1] == b"newer" for n in range(50))
