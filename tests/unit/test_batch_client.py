"""The adapter over paho (mqtt_presence/batch_client.py), held against plain paho and against any cut of the bytes."""

import random
import socket
import threading
import time

import paho.mqtt.client as mqtt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from mqtt_presence.bridge.link.batch_client import BatchClient
from mqtt_presence.mqtt.fields import length_prefixed, packet, property_field, uint16
from mqtt_presence.mqtt.framing import frames

MAX_PACKET = 21_000


class Peer:
    """The broker's end of a socket pair under a client that believes it is connected."""

    def __init__(self, version: int = mqtt.MQTTv311) -> None:
        self.published: list[tuple[int, bytes, bytes, int]] = []
        self.acknowledged: list[int] = []
        self.large: list[tuple[int, bytes, int, int]] = []
        self.client = BatchClient(
            receive_publish=lambda *what: self.published.append(what),
            receive_puback=lambda mid, reason: self.acknowledged.append(mid),
            receive_large=lambda *what: self.large.append(what),
            max_packet=MAX_PACKET,
            callback_api_version=CallbackAPIVersion.VERSION2,
            client_id="x",
            protocol=version,
            reconnect_on_failure=False,
        )
        ours, self.sock = socket.socketpair()
        ours.setblocking(False)
        self.client._sock = ours
        self.client.on_socket_register_write = lambda *_: None

    def close(self) -> None:
        self.client._sock_close()
        self.sock.close()


@pytest.fixture
def peer():
    peer = Peer()
    yield peer
    peer.close()


def publish(topic: bytes, payload: bytes, mid: int, flags: int, properties: bytes | None = None) -> bytes:
    body = length_prefixed(topic) + (uint16(mid) if flags & 6 else b"") + property_field(properties) + payload
    return packet(0x30 | flags, body)


messages = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=30),
        st.one_of(st.binary(max_size=300), st.just(b"x" * 20_000)),
        st.integers(1, 65_535),
        st.sampled_from([0, 1, 2, 3, 10, 11]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(
    messages=messages,
    pubacks=st.lists(st.integers(1, 65_535), max_size=5),
    seed=st.integers(0, 999),
    properties=st.one_of(st.none(), st.binary(max_size=200)),
)
def test_batch_client_reads_the_same_however_the_bytes_are_cut(messages, pubacks, seed, properties):
    """Every packet of either version arrives whole and in order, wherever the network cuts the stream."""
    peer = Peer(mqtt.MQTTv311 if properties is None else mqtt.MQTTv5)
    try:
        stream = b"".join(publish(*m, properties) for m in messages)
        stream += b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in pubacks)
        cut = random.Random(seed)
        while stream:
            size = cut.choice([1, 2, 3, 100, 5_000, 100_000])
            peer.sock.sendall(stream[:size])
            stream = stream[size:]
            while peer.client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS:
                pass
        expected = [(f, t, p, m if f & 6 else 0) for t, p, m, f in messages]
        assert peer.published == expected
        assert peer.acknowledged == pubacks
    finally:
        peer.close()


large_messages = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"presence/u/c/activity", b"x" * 30_000]),
        st.sampled_from([0, 5, MAX_PACKET + 1, 3 * MAX_PACKET, 300_000]),
        st.integers(1, 65_535),
        st.sampled_from([0, 1, 2, 10]),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(
    messages=large_messages,
    seed=st.integers(0, 999),
    properties=st.one_of(st.none(), st.just(b""), st.just(b"p" * 30_000)),
)
def test_batch_client_reads_past_what_is_too_large(messages, seed, properties):
    """What is larger than allowed is told without its payload and never kept; all others arrive as ever."""
    peer = Peer(mqtt.MQTTv311 if properties is None else mqtt.MQTTv5)
    try:
        stream = b"".join(publish(t, b"x" * size, m, f, properties) for t, size, m, f in messages)
        cut = random.Random(seed)
        kept = 0
        while stream:
            size = cut.choice([1, 3, 100, 5_000, 100_000])
            peer.sock.sendall(stream[:size])
            stream = stream[size:]
            while peer.client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS:
                kept = max(kept, len(peer.client._rest))
        expected, too_large = [], []
        for topic, size, mid, flags in messages:
            ((_, body, after),) = frames(publish(topic, b"x" * size, mid, flags, properties))
            length = after - body
            packet_id = mid if flags & 6 else 0
            if length > MAX_PACKET:
                too_large.append((flags, topic, length, packet_id))
            else:
                expected.append((flags, topic, b"x" * size, packet_id))
        assert peer.published == expected
        assert peer.large == too_large
        assert kept <= 5 + 2 + 30_000 + 2, "the head of a large one"
    finally:
        peer.close()


def test_batch_client_tells_of_a_large_packet_when_it_is_past(peer):
    """Not before all of it has come: what is not delivered cannot be acknowledged. A new connection begins anew."""
    packet = publish(b"a", b"x" * 100_000, 7, 2)
    peer.sock.sendall(packet[:-1])
    peer.client.loop_read()
    assert peer.large == []
    peer.sock.sendall(packet[-1:] + publish(b"b", b"", 8, 2) + packet[:50_000])
    peer.client.loop_read()
    assert peer.large == [(2, b"a", 100_005, 7)]
    assert peer.published == [(2, b"b", b"", 8)]
    peer.client._sock_close()
    peer.client._handle(publish(b"c", b"", 9, 2))
    assert peer.published[1:] == [(2, b"c", b"", 9)]


@pytest.mark.parametrize(
    "junk",
    [
        b"\x90\xff\xff\xff\x7f",  # a SUBACK of 256 MB
        b"\x32\x88\xa4\x03\xff\xff",  # a topic longer than its packet, which is large
        b"\x32\xff\xff\xff\xff\x01",  # a remaining length of five bytes
        b"\x32\x03\x00\x09a",  # a topic longer than its packet
        b"\x32\x04\x00\x02aa",  # no packet id where there must be one
        b"\x30\x01\x00",  # not even a topic length
        b"\xf0\x00",  # a packet type that 3.1.1 does not have
        b"\x90\x01\x00",  # a SUBACK that is too short
    ],
)
def test_batch_client_malformed_packet_ends_the_connection(peer, junk):
    """A broker that does not speak MQTT is left, without an exception (MQTT 3.1.1 §4.8)."""
    peer.sock.sendall(junk)
    assert peer.client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS
    assert peer.client.socket() is None
    assert peer.published == []


def test_batch_client_closed_connection_is_told(peer):
    """When the broker closes the socket, on_disconnect is called."""
    told = []
    peer.client.on_disconnect = lambda *_: told.append(True)
    peer.sock.close()
    peer.client.loop_read()
    assert told
    assert peer.client.socket() is None


@pytest.mark.parametrize("version", [mqtt.MQTTv311, mqtt.MQTTv5])
def test_batch_client_writes_what_plain_paho_writes(version):
    """PUBLISH and PUBACK are byte for byte paho's own, in both versions."""

    def wire(send) -> bytes:
        peer = Peer(version)
        plain = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="x", manual_ack=True, protocol=version)
        ours, theirs = socket.socketpair()
        plain._sock = ours
        plain.on_socket_register_write = lambda *_: None
        try:
            send(peer.client, plain)
            peer.client.flush()
            plain.loop_write()
            theirs.setblocking(False)
            peer.sock.setblocking(False)
            return peer.sock.recv(1 << 20), theirs.recv(1 << 20)
        finally:
            peer.close()
            ours.close()
            theirs.close()

    def send(batch, plain):
        for topic, payload, retain in (("status/älice", b"{}", True), ("events/a/b", b"x" * 200, False)):
            mid = batch.queue_publish(topic, payload, retain=retain)
            plain._send_publish(mid, topic.encode(), payload, 1, retain)
        batch.queue_acks([3, 65_535])
        plain._send_puback(3)
        plain._send_puback(65_535)

    ours, pahos = wire(send)
    assert ours == pahos


def test_batch_client_writes_more_than_the_socket_takes(peer):
    """What the operating system does not take at once is written later, in order."""
    for i in range(3_000):
        peer.client.queue_publish("status/u", b"%d" % i * 50, retain=True)
    peer.client.flush()
    assert peer.client.want_write()
    received = bytearray()
    done = threading.Event()

    def read() -> None:
        while not done.is_set() or not received.endswith(b"2999" * 50):
            data = peer.sock.recv(1 << 16)
            if not data:
                return
            received.extend(data)
            if received.endswith(b"2999" * 50):
                return

    reader = threading.Thread(target=read)
    reader.start()
    while reader.is_alive():
        peer.client.flush()
    done.set()
    reader.join()
    assert received.count(b"status/u") == 3_000


PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"


@pytest.fixture
def clock(peer, monkeypatch):
    """Connect with a keep alive of 10 seconds, and hold the clock in the hand."""
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(mqtt, "time_func", lambda: now[0])
    peer.client._keepalive = 10
    peer.client._last_msg_out = peer.client._last_bytes_received = now[0]
    peer.sock.sendall(b"\x20\x02\x00\x00")
    peer.client.loop_read()
    peer.sock.setblocking(False)

    def later(seconds: float) -> bytes:
        """Look again after some seconds; return what was sent."""
        now[0] += seconds
        peer.client.loop_misc()
        peer.client.flush()
        try:
            return peer.sock.recv(100)
        except BlockingIOError:
            return b""

    return later


def test_batch_client_pings_while_there_is_time(peer, clock):
    """A ping goes when half of the keep alive is over, once, so that who looks late is not too late."""
    assert clock(4.9) == b""
    assert clock(0.2) == PINGREQ
    assert clock(1.0) == b""
    peer.sock.sendall(PINGRESP)
    peer.client.loop_read()
    assert clock(3.9) == b""
    assert clock(0.2) == PINGREQ


def test_batch_client_without_a_keep_alive_never_pings(peer, clock):
    """0 is none (MQTT 3.1.1 §3.1.2.10)."""
    peer.client._keepalive = 0
    assert clock(100.0) == b""


def test_batch_client_hears_life_in_all_that_comes(peer, clock):
    """The answer to a ping may be behind more than can be read in time: what comes before it is as good."""
    assert clock(6.0) == PINGREQ
    for _ in range(4):
        peer.sock.sendall(publish(b"a", b"", 1, 2))
        peer.client.loop_read()
        clock(6.0)
    assert peer.client.socket() is not None


@pytest.mark.parametrize("step", [1.7, 3.0, 5.0, 8.0])
def test_batch_client_excuses_what_it_has_not_read(peer, clock, step):
    """Who does not read for longer than the keep alive pings in time all the same, and does not hang up."""
    for _ in range(40):
        peer.client.excuse_silence()
        clock(step)
        assert peer.client.socket() is not None


def test_batch_client_that_looks_late_asks_first(peer, clock):
    """After a pause as long as the keep alive the broker is pinged, and has as long to answer."""
    assert clock(11.0) == PINGREQ
    assert peer.client.socket() is not None
    clock(9.0)
    assert peer.client.socket() is not None
    clock(1.5)
    assert peer.client.socket() is None


def test_batch_client_leaves_who_is_silent(peer, clock):
    """Nothing came for as long as the keep alive after a ping: the connection is dead."""
    assert clock(6.0) == PINGREQ
    clock(10.1)
    assert peer.client.socket() is None


@pytest.mark.parametrize("properties", [b"\xff\xff\xff\xff", b"\x05ab", b"\xff"])
def test_batch_client_malformed_properties_end_the_connection(properties):
    """Properties that are longer than their packet, or have no length, are no reason for an exception."""
    peer = Peer(mqtt.MQTTv5)
    try:
        peer.sock.sendall(bytes([0x30, 3 + len(properties), 0, 1, 97]) + properties)
        assert peer.client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS
        assert peer.client.socket() is None
        assert peer.published == []
    finally:
        peer.close()
