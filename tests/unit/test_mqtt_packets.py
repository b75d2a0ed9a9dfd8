"""The codec of MQTT 3.1.1 and MQTT 5 (mqtt_presence/mqtt/), held against itself, paho, and any cut of the bytes."""

import contextlib
import socket
from collections.abc import Callable

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import VariableByteIntegers

from mqtt_presence.mqtt.fields import Cursor, length_prefixed
from mqtt_presence.mqtt.framing import Framer, Kind, Packet, ProtocolError, fixed_header, frames, read_length
from mqtt_presence.mqtt.packets import (
    DISCONNECT,
    MQTT_5,
    MQTT_311,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    UNSUBACK,
    Connect,
    Publish,
    Will,
    connack_packet,
    connect_packet,
    id_packet,
    puback_packets,
    publish_packet,
    read_codes,
    read_connack,
    read_connect,
    read_id,
    read_publish,
    read_reason,
    read_subscribe,
    read_unsubscribe,
    reason_packet,
    split_publish,
    suback_packet,
    subscribe_packet,
    unsuback_packet,
    unsubscribe_packet,
)

IDS = st.integers(1, 65_535)
CODES = st.integers(0, 255)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
BLOBS = st.one_of(st.binary(max_size=300), st.just(b"x" * 20_000))
MQTT5_PROPERTIES = st.one_of(st.binary(max_size=20), st.just(b"p" * 200))
PROPERTIES = st.none() | MQTT5_PROPERTIES
"""None: the packet is one of MQTT 3.1.1."""


def one(data: bytes) -> Packet:
    (packet,) = Framer().feed(data)
    return packet


# Every type of packet, in both versions.


@st.composite
def connects(draw: st.DrawFn) -> Connect:
    level = draw(st.sampled_from([MQTT_311, MQTT_5]))
    properties = MQTT5_PROPERTIES if level == MQTT_5 else st.none()
    wills = st.builds(Will, TEXTS, BLOBS, st.integers(0, 2), st.booleans(), properties)
    user = draw(st.none() | TEXTS)
    may_have_password = user is not None or level == MQTT_5
    return Connect(
        level,
        draw(st.booleans()),
        draw(st.integers(0, 65_535)),
        draw(TEXTS),
        draw(st.none() | wills),
        user,
        draw(st.none() | BLOBS) if may_have_password else None,
        draw(properties),
    )


@settings(deadline=None)
@given(connect=connects())
def test_connect_round_trip(connect: Connect) -> None:
    packet = one(connect_packet(connect))
    assert (packet.kind, packet.flags) == (Kind.CONNECT, 0)
    assert read_connect(packet.body) == connect


@settings(deadline=None)
@given(present=st.booleans(), code=CODES, properties=PROPERTIES)
def test_connack_round_trip(present: bool, code: int, properties: bytes | None) -> None:
    packet = one(connack_packet(code, session_present=present, properties=properties))
    assert (packet.kind, packet.flags) == (Kind.CONNACK, 0)
    assert read_connack(packet.body, mqtt5=properties is not None) == (present, code, properties)


PUBLISHES = st.builds(
    lambda topic, payload, packet_id, qos, retain, dup, properties: Publish(
        topic, payload, packet_id, qos if packet_id else 0, retain, dup, properties
    ),
    TEXTS, BLOBS, st.just(0) | IDS, st.integers(1, 2), st.booleans(), st.booleans(), PROPERTIES,
)  # fmt: skip


def written(message: Publish) -> bytes:
    return publish_packet(
        message.topic,
        message.payload,
        message.packet_id,
        qos=message.qos or 1,
        retain=message.retain,
        dup=message.dup,
        properties=message.properties,
    )


@settings(deadline=None)
@given(message=PUBLISHES)
def test_publish_round_trip(message: Publish) -> None:
    """Both readers, the one that checks and the one that is fast, find the same."""
    packet, mqtt5 = one(written(message)), message.properties is not None
    assert packet.kind == Kind.PUBLISH
    assert read_publish(packet.flags, packet.body, mqtt5=mqtt5) == message
    fast = split_publish(packet.flags, packet.body, 0, len(packet.body), mqtt5=mqtt5)
    assert fast == (message.topic.encode(), message.packet_id, message.payload)


@pytest.mark.parametrize(
    ("first", "kind"),
    [(PUBACK, Kind.PUBACK), (PUBREC, Kind.PUBREC), (PUBREL, Kind.PUBREL), (PUBCOMP, Kind.PUBCOMP)],
)
@settings(deadline=None)
@given(packet_id=IDS, reason_code=CODES, properties=MQTT5_PROPERTIES)
def test_acknowledgement_round_trip(
    first: int, kind: Kind, packet_id: int, reason_code: int, properties: bytes
) -> None:
    plain = one(id_packet(first, packet_id))
    assert (plain.kind, plain.flags, len(plain.body)) == (kind, 2 if kind == Kind.PUBREL else 0, 2)
    assert read_id(plain.body) == (packet_id, 0, b"")
    packet = one(id_packet(first, packet_id, reason_code=reason_code, properties=properties))
    assert read_id(packet.body) == (packet_id, reason_code, properties)


def test_acknowledgement_may_end_after_its_reason_code() -> None:
    """MQTT 5 §3.4.2.2.1: without properties their length may be left out."""
    assert read_id(b"\0\7\x87") == (7, 0x87, b"")


@settings(deadline=None)
@given(packet_ids=st.lists(IDS))
def test_many_pubacks_are_those_of_each(packet_ids: list[int]) -> None:
    assert puback_packets(packet_ids) == b"".join(id_packet(PUBACK, n) for n in packet_ids)


FILTERS = st.lists(TEXTS, max_size=5)


@settings(deadline=None)
@given(filters=st.lists(st.tuples(TEXTS, CODES), max_size=5), packet_id=IDS, properties=PROPERTIES)
def test_subscribe_round_trip(
    filters: list[tuple[str, int]], packet_id: int, properties: bytes | None
) -> None:
    packet = one(subscribe_packet(filters, packet_id, properties=properties))
    assert (packet.kind, packet.flags) == (Kind.SUBSCRIBE, 2)
    assert read_subscribe(packet.body, mqtt5=properties is not None) == (packet_id, filters, properties)


@settings(deadline=None)
@given(filters=FILTERS, packet_id=IDS, properties=PROPERTIES)
def test_unsubscribe_round_trip(filters: list[str], packet_id: int, properties: bytes | None) -> None:
    packet = one(unsubscribe_packet(filters, packet_id, properties=properties))
    assert (packet.kind, packet.flags) == (Kind.UNSUBSCRIBE, 2)
    assert read_unsubscribe(packet.body, mqtt5=properties is not None) == (packet_id, filters, properties)


@settings(deadline=None)
@given(codes=st.binary(max_size=5), packet_id=IDS, properties=PROPERTIES)
def test_suback_and_unsuback_round_trip(codes: bytes, packet_id: int, properties: bytes | None) -> None:
    packet, mqtt5 = one(suback_packet(packet_id, codes, properties=properties)), properties is not None
    assert packet.kind == Kind.SUBACK
    assert read_codes(packet.body, mqtt5=mqtt5) == (packet_id, codes, properties)
    if properties is None:
        answer, codes = one(id_packet(UNSUBACK, packet_id)), b""
    else:
        answer = one(unsuback_packet(packet_id, codes, properties=properties))
    assert answer.kind == Kind.UNSUBACK
    assert read_codes(answer.body, mqtt5=mqtt5) == (packet_id, codes, properties)


@pytest.mark.parametrize("kind", [Kind.DISCONNECT, Kind.AUTH])
@settings(deadline=None)
@given(reason_code=CODES, properties=MQTT5_PROPERTIES)
def test_disconnect_and_auth_round_trip(kind: Kind, reason_code: int, properties: bytes) -> None:
    packet = one(reason_packet(kind, reason_code, properties))
    assert packet.kind == kind
    assert read_reason(packet.body) == (reason_code, properties)


@pytest.mark.parametrize(
    ("data", "kind"),
    [(PINGREQ, Kind.PINGREQ), (PINGRESP, Kind.PINGRESP), (DISCONNECT, Kind.DISCONNECT)],
)
def test_packets_without_a_body(data: bytes, kind: Kind) -> None:
    assert one(data) == (kind, 0, b"")
    assert read_reason(b"") == (0, b"")


# Lengths and framing.


@settings(deadline=None)
@given(length=st.integers(0, 268_435_455))
def test_remaining_length_round_trip(length: int) -> None:
    """A remaining length is read as it was written, and written as paho writes it (MQTT 3.1.1 §2.2.3)."""
    header = fixed_header(0x30, length)
    assert header == b"\x30" + VariableByteIntegers.encode(length)
    assert read_length(header, 1) == (length, len(header))
    assert list(frames(header)) == [(0, len(header), len(header) + length)]
    for cut in range(1, len(header)):
        assert read_length(header[:cut], 1) == (0, 0)
        assert list(frames(header[:cut])) == []


@settings(deadline=None)
@given(messages=st.lists(PUBLISHES, max_size=6), data=st.data())
def test_stream_may_be_cut_anywhere(messages: list[Publish], data: st.DataObject) -> None:
    stream = b"".join(map(written, messages)) + PINGREQ
    framer, found = Framer(), []
    while stream:
        size = data.draw(st.one_of(st.integers(1, 4), st.integers(1, len(stream))))
        found += framer.feed(stream[:size])
        stream = stream[size:]
    *publishes, ping = found
    assert ping.kind == Kind.PINGREQ
    for packet, message in zip(publishes, messages, strict=True):
        assert read_publish(packet.flags, packet.body, mqtt5=message.properties is not None) == message


@pytest.mark.parametrize("cut", range(1, 6))
def test_length_of_five_bytes_is_malformed(cut: int) -> None:
    """The packets before are complete; the stream is not waited for any longer."""
    framer, stream = Framer(), PINGREQ + b"\x30\xff\xff\xff\xff\x01"
    assert [packet.kind for packet in framer.feed(stream[:cut])] == ([Kind.PINGREQ] if cut > 1 else [])
    with pytest.raises(ProtocolError, match="malformed"):
        list(framer.feed(stream[cut:]))


def test_packet_beyond_the_limit_is_refused_before_it_is_there() -> None:
    """The limit counts the whole packet; its length is enough to refuse it."""
    assert one(packet := fixed_header(0x30, 98) + b"x" * 98).body == b"x" * 98
    assert list(Framer(100).feed(packet)) == [(3, 0, b"x" * 98)]
    with pytest.raises(ProtocolError, match="a packet of 99 bytes is over max_packet_size=100"):
        list(Framer(100).feed(fixed_header(0x30, 99)))


# What is refused.


@pytest.mark.parametrize(
    ("read", "body", "why"),
    [
        (read_connect, length_prefixed("HTTP") + b"\4\2\0\0\0\0", "protocol 'HTTP'"),
        (read_connect, length_prefixed("MQTT") + b"\4\3\0\0\0\0", "flags 0x03"),  # a reserved bit
        (read_connect, length_prefixed("MQTT") + b"\4\x42\0\0\0\0", "flags 0x42"),  # a password and no user
        (read_connect, length_prefixed("MQTT") + b"\4\x0a\0\0\0\0", "flags 0x0a"),  # a QoS of no will
        (read_connect, length_prefixed("MQTT") + b"\4\x1e\0\0\0\0", "flags 0x1e"),  # a will at QoS 3
        (read_connect, length_prefixed("MQTT") + b"\4\2\0\0\0\0x", "left over"),
        (
            read_connect,
            length_prefixed("MQTT") + b"\5\2\0\0\x05\0\0",
            "shorter",
        ),  # properties beyond the packet
        (read_connect, length_prefixed("MQTT") + b"\5\2\0\0\xff", "shorter"),  # their length is cut
        (read_connack, b"\0", "shorter"),
        (read_id, b"\0\0", "packet id 0"),
        (read_subscribe, b"\0\1\0\1a", "shorter"),
        (read_unsubscribe, b"\0\1\0\3a\0b", "NUL"),
        (read_unsubscribe, b"\0\1\0\1\xff", "UTF-8"),
        (lambda body: read_publish(6, body), b"\0\1a\0\1", "QoS 3"),
        (lambda body: read_publish(2, body), b"\0\1a\0\0", "packet id 0"),
        (lambda body: read_publish(0, body), b"\0\2a", "shorter"),
    ],
)
def test_malformed_packets_are_refused(read: Callable[[bytes], object], body: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        read(body)


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\2a", b"\0\1a", b"\0\1a\0"])
def test_fast_reader_stays_within_the_packet(body: bytes) -> None:
    """What follows in the buffer is another packet's."""
    with pytest.raises(ProtocolError):
        split_publish(2, body + PINGREQ * 5, 0, len(body), mqtt5=False)


@pytest.mark.parametrize(
    "body", [b"\0\1a\0\1", b"\0\1a\0\1\1", b"\0\1a\0\1\xff", b"\0\1a\0\1\xff\xff\xff\xff"]
)
def test_fast_reader_needs_properties_in_mqtt5(body: bytes) -> None:
    """Properties that are missing, cut or malformed are not those of the next packet."""
    with pytest.raises(ProtocolError):
        split_publish(2, body + b"\0" * 9, 0, len(body), mqtt5=True)


def test_unknown_protocol_is_not_read_beyond_its_level() -> None:
    """Another version is refused by its number, whatever follows."""
    assert read_connect(length_prefixed("MQTT") + b"\6") == Connect(6)
    assert read_connect(length_prefixed("MQIsdp") + b"\3") == Connect(3)
    assert read_connect(length_prefixed("MQTT") + b"\5", levels=(MQTT_311,)) == Connect(5)


@settings(deadline=None)
@given(data=st.binary(max_size=60), flags=st.integers(0, 15), mqtt5=st.booleans())
def test_readers_raise_nothing_else(data: bytes, flags: int, mqtt5: bool) -> None:
    """Whatever the bytes, a reader returns fields or raises ProtocolError."""
    readers: list[Callable[[], object]] = [
        lambda: read_connect(data),
        lambda: read_connect(length_prefixed("MQTT") + bytes((MQTT_5 if mqtt5 else MQTT_311,)) + data),
        lambda: read_connack(data, mqtt5=mqtt5),
        lambda: read_publish(flags, data, mqtt5=mqtt5),
        lambda: split_publish(flags, data, 0, len(data), mqtt5=mqtt5),
        lambda: read_id(data),
        lambda: read_subscribe(data, mqtt5=mqtt5),
        lambda: read_unsubscribe(data, mqtt5=mqtt5),
        lambda: read_codes(data, mqtt5=mqtt5),
        lambda: read_reason(data),
        lambda: list(Framer(1_000).feed(data)),
        lambda: Cursor(data).text(),
    ]
    for read in readers:
        with contextlib.suppress(ProtocolError):
            read()


# Beside paho.


def sent_by_paho(version: int, send: Callable[[paho.Client], object], **options: object) -> list[bytes]:
    """Return the packets that a connected paho writes; the first is its CONNECT."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id="phone", protocol=version, manual_ack=True, **options
    )
    client.username_pw_set("alice", "secret")
    client.will_set("presence/alice/phone/will", b"w", 1)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    client._create_socket = lambda: ours
    client.connect("127.0.0.1", 1, keepalive=30)
    send(client)
    client.loop_write()
    packets = list(Framer().feed(theirs.recv(1 << 16)))
    ours.close()
    theirs.close()
    return packets


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5])
def test_paho_writes_the_same_packets(version: int) -> None:
    """CONNECT, SUBSCRIBE, UNSUBSCRIBE, PUBLISH at each QoS, PUBACK and PINGREQ are paho's, byte for byte."""
    properties = b"" if version == paho.MQTTv5 else None

    def send(client: paho.Client) -> None:
        client.subscribe([("status/+", 1), ("bridge/älice", 0)])
        client.unsubscribe(["status/+", "b"])
        client._send_publish(3, b"a/b", b"x" * 200, 1, False)
        client._send_publish(4, b"a", b"", 2, True)
        client.publish("a", b"y", 0)
        client._send_puback(9)
        client._send_pingreq()

    connect = Connect(
        version,
        True,
        30,
        "phone",
        Will("presence/alice/phone/will", b"w", 1, properties=properties),
        "alice",
        b"secret",
        properties,
    )
    mine = (
        connect_packet(connect)
        + subscribe_packet([("status/+", 1), ("bridge/älice", 0)], 1, properties=properties)
        + unsubscribe_packet(["status/+", "b"], 2, properties=properties)
        + publish_packet("a/b", b"x" * 200, 3, properties=properties)
        + publish_packet("a", b"", 4, qos=2, retain=True, properties=properties)
        + publish_packet("a", b"y", properties=properties)
        + id_packet(PUBACK, 9)
        + PINGREQ
    )
    assert sent_by_paho(version, send) == list(Framer().feed(mine))
