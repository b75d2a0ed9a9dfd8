"""The control packets of MQTT 3.1.1 and MQTT 5, written and read.

`properties` are those of MQTT 5 as bytes, without their length. None: the packet is one of MQTT 3.1.1.
Sections are those of MQTT 3.1.1 (§3); MQTT 5 has the same ones. Readers raise `ProtocolError` for a packet
that is shorter than its fields or breaks a rule of its section.
"""

import struct
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from mqtt_presence.mqtt.fields import Cursor, length_prefixed, packet, property_field, uint16
from mqtt_presence.mqtt.framing import Kind, ProtocolError, fixed_header, read_length
from mqtt_presence.mqtt.return_codes import FAILURE

MQTT_311: Final = 4
MQTT_5: Final = 5
"""Protocol levels (§3.1.2.2)."""

PUBACK: Final = 0x40
PUBREC: Final = 0x50
PUBREL: Final = 0x62
PUBCOMP: Final = 0x70
UNSUBACK: Final = 0xB0
"""First bytes of packets."""
PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = b"\xd0\x00"
DISCONNECT: Final = b"\xe0\x00"
SUBSCRIBE_REFUSED: Final = FAILURE
"""A return code of SUBACK (§3.9.3)."""

_ID_PACKET = struct.Struct(">BBH").pack
_ID_WITHOUT_PROPERTIES = struct.Struct(">HB").pack
_SMALL_HEAD = struct.Struct(">BBH").pack
_USUAL_HEAD = struct.Struct(">BBBH").pack


# CONNECT and CONNACK (§3.1, §3.2).


@dataclass(frozen=True, slots=True)
class Will:
    """The message that the broker publishes when the connection is lost."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    properties: bytes | None = None


@dataclass(frozen=True, slots=True)
class Connect:
    """The fields of a CONNECT; of an unknown protocol nothing but the level is known."""

    level: int
    clean: bool = True
    keep_alive_s: int = 0
    client_id: str = ""
    will: Will | None = None
    user: str | None = None
    password: bytes | None = field(default=None, repr=False)
    properties: bytes | None = None


def connect_packet(connect: Connect) -> bytes:
    """Write a CONNECT."""
    will, user, password = connect.will, connect.user, connect.password
    flags = 2 if connect.clean else 0
    tail = length_prefixed(connect.client_id)
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
        tail += property_field(will.properties) + length_prefixed(will.topic) + length_prefixed(will.payload)
    if user is not None:
        flags |= 0x80
        tail += length_prefixed(user)
    if password is not None:
        flags |= 0x40
        tail += length_prefixed(password)
    head = length_prefixed("MQTT") + bytes((connect.level, flags)) + uint16(connect.keep_alive_s)
    return packet(0x10, head + property_field(connect.properties) + tail)


def read_connect(body: bytes, levels: Container[int] = (MQTT_311, MQTT_5)) -> Connect:
    """Read a CONNECT.

    Args:
        body: the packet after its fixed header.
        levels: the protocol levels that the broker speaks; a packet of another is not read beyond its level.

    """
    cursor = Cursor(body)
    name, level = cursor.text(), cursor.byte()
    if name not in ("MQTT", "MQIsdp"):
        raise ProtocolError(f"protocol {name[:20]!a}")
    if name != "MQTT" or level not in levels:
        return Connect(level)
    mqtt5 = level == MQTT_5
    flags, keep_alive_s, properties = cursor.byte(), cursor.uint16(), cursor.properties(mqtt5=mqtt5)
    client_id = cursor.text()
    will_qos, is_password_alone = flags >> 3 & 3, flags & 0x40 and not flags & 0x80 and not mqtt5
    if flags & 1 or will_qos == 3 or (flags & 0x38 and not flags & 4) or is_password_alone:
        raise ProtocolError(f"CONNECT flags {flags:#04x}")
    will = None
    if flags & 4:
        will_properties = cursor.properties(mqtt5=mqtt5)
        will = Will(cursor.text(), cursor.binary(), will_qos, bool(flags & 0x20), will_properties)
    user = cursor.text() if flags & 0x80 else None
    password = cursor.binary() if flags & 0x40 else None
    if cursor:
        raise ProtocolError("CONNECT has bytes left over")
    return Connect(level, bool(flags & 2), keep_alive_s, client_id, will, user, password, properties)


def connack_packet(code: int, *, session_present: bool = False, properties: bytes | None = None) -> bytes:
    """Write a CONNACK with a return code, or in MQTT 5 a reason code."""
    return packet(0x20, bytes((session_present, code)) + property_field(properties))


def read_connack(body: bytes, *, mqtt5: bool = False) -> tuple[bool, int, bytes | None]:
    """Read a CONNACK; return whether the broker has kept a session, the code, and the properties."""
    cursor = Cursor(body)
    flags, code = cursor.byte(), cursor.byte()
    return bool(flags & 1), code, cursor.properties(mqtt5=mqtt5)


# PUBLISH and its acknowledgements (§3.3 to §3.7).


@dataclass(frozen=True, slots=True)
class Publish:
    """The fields of a PUBLISH; packet id 0: it is at QoS 0."""

    topic: str
    payload: bytes
    packet_id: int
    qos: int
    retain: bool
    dup: bool
    properties: bytes | None


def publish_packet(
    topic: str,
    payload: bytes,
    packet_id: int = 0,
    *,
    retain: bool = False,
    dup: bool = False,
    qos: int = 1,
    properties: bytes | None = None,
) -> bytes:
    """Write a PUBLISH.

    Args:
        topic: its topic name.
        payload: its payload.
        packet_id: 0: it is at QoS 0.
        retain: its flag.
        dup: its flag.
        qos: 1 or 2, where there is a packet id.
        properties: those of MQTT 5.

    """
    name = topic.encode()
    size = len(name)
    first = 0x30 | retain
    if packet_id:
        first |= qos << 1
    if dup:
        first |= 8
    if properties is None:
        middle = uint16(packet_id) if packet_id else b""
    elif packet_id and not properties:
        middle = _ID_WITHOUT_PROPERTIES(packet_id, 0)
    else:
        middle = (uint16(packet_id) if packet_id else b"") + property_field(properties)
    length = 2 + size + len(middle) + len(payload)
    if length < 128:  # the two usual sizes: one call instead of three
        head = _SMALL_HEAD(first, length, size)
    elif length < 16_384:
        head = _USUAL_HEAD(first, length % 128 | 128, length >> 7, size)
    else:
        head = fixed_header(first, length) + uint16(size)
    return head + name + middle + payload


def split_publish(first: int, data: bytes, at: int, end: int, *, mqtt5: bool) -> tuple[bytes, int, bytes]:
    """Read topic, packet id and payload of a PUBLISH as fast as possible: of the contents nothing is checked.

    Args:
        first: the packet's first byte, or its flags.
        data: has the packet somewhere.
        at: where the packet goes on after its fixed header.
        end: where the packet ends.
        mqtt5: it is a packet of MQTT 5.

    """
    name = at + 2
    after = name + (data[at] << 8 | data[at + 1]) if name <= end else end + 1
    topic, packet_id = data[name:after], 0
    if first & 6:
        after += 2
        if after <= end:
            packet_id = data[after - 2] << 8 | data[after - 1]
    if mqtt5 and after <= end:
        if after < end and not data[after]:  # nearly always
            after += 1
        else:
            length, after = read_length(data, after)
            after = after + length if after else end + 1
    if after > end:
        raise ProtocolError("the packet is shorter than its fields")
    return topic, packet_id, data[after:end]


def read_publish(flags: int, body: bytes, *, mqtt5: bool = False) -> Publish:
    """Read a PUBLISH.

    Args:
        flags: those of its fixed header (§3.3.1).
        body: the packet after its fixed header.
        mqtt5: it is a packet of MQTT 5.

    """
    qos = flags >> 1 & 3
    if qos == 3:
        raise ProtocolError("PUBLISH at QoS 3")
    cursor = Cursor(body)
    topic, packet_id = cursor.text(), cursor.packet_id() if qos else 0
    properties = cursor.properties(mqtt5=mqtt5)
    return Publish(topic, cursor.rest(), packet_id, qos, bool(flags & 1), bool(flags & 8), properties)


def id_packet(first: int, packet_id: int, *, reason_code: int = 0, properties: bytes | None = None) -> bytes:
    """Write a packet that has only a packet id, or in MQTT 5 also a reason code and properties.

    Args:
        first: its first byte: `PUBACK`, `PUBREC`, `PUBREL`, `PUBCOMP`; in MQTT 3.1.1 `UNSUBACK`.
        packet_id: the id.
        reason_code: that of MQTT 5.
        properties: those of MQTT 5.

    """
    if not reason_code and not properties:
        return _ID_PACKET(first, 2, packet_id)
    return packet(first, uint16(packet_id) + bytes((reason_code,)) + property_field(properties or b""))


def puback_packets(packet_ids: Iterable[int]) -> bytes:
    """Write a PUBACK for each packet id."""
    return b"".join([_ID_PACKET(PUBACK, 2, packet_id) for packet_id in packet_ids])


def read_id(body: bytes) -> tuple[int, int, bytes]:
    """Read a PUBACK, PUBREC, PUBREL or PUBCOMP; return packet id, reason code and properties."""
    cursor = Cursor(body)
    packet_id = cursor.packet_id()
    reason_code = cursor.byte() if cursor else 0
    return packet_id, reason_code, (cursor.properties(mqtt5=True) if cursor else None) or b""


# SUBSCRIBE, UNSUBSCRIBE and their answers (§3.8 to §3.11).


def subscribe_packet(
    filters: Iterable[tuple[str, int]], packet_id: int, *, properties: bytes | None = None
) -> bytes:
    """Write a SUBSCRIBE with topic filters, each with its QoS or in MQTT 5 its options."""
    entries = b"".join(
        [length_prefixed(topic_filter) + bytes((options,)) for topic_filter, options in filters]
    )
    return packet(0x82, uint16(packet_id) + property_field(properties) + entries)


def read_subscribe(body: bytes, *, mqtt5: bool = False) -> tuple[int, list[tuple[str, int]], bytes | None]:
    """Read a SUBSCRIBE; return packet id, topic filters with their options, and properties."""
    cursor = Cursor(body)
    packet_id, properties = cursor.packet_id(), cursor.properties(mqtt5=mqtt5)
    filters = []
    while cursor:
        filters.append((cursor.text(), cursor.byte()))
    return packet_id, filters, properties


def unsubscribe_packet(filters: Sequence[str], packet_id: int, *, properties: bytes | None = None) -> bytes:
    """Write an UNSUBSCRIBE."""
    return packet(
        0xA2, uint16(packet_id) + property_field(properties) + b"".join(map(length_prefixed, filters))
    )


def read_unsubscribe(body: bytes, *, mqtt5: bool = False) -> tuple[int, list[str], bytes | None]:
    """Read an UNSUBSCRIBE; return packet id, topic filters and properties."""
    cursor = Cursor(body)
    packet_id, properties = cursor.packet_id(), cursor.properties(mqtt5=mqtt5)
    filters = []
    while cursor:
        filters.append(cursor.text())
    return packet_id, filters, properties


def suback_packet(packet_id: int, codes: bytes, *, properties: bytes | None = None) -> bytes:
    """Write a SUBACK, with a return code for each of the filters."""
    return packet(0x90, uint16(packet_id) + property_field(properties) + codes)


def unsuback_packet(packet_id: int, codes: bytes, *, properties: bytes) -> bytes:
    """Write an UNSUBACK of MQTT 5, with a reason code for each of the filters."""
    return packet(UNSUBACK, uint16(packet_id) + property_field(properties) + codes)


def read_codes(body: bytes, *, mqtt5: bool = False) -> tuple[int, bytes, bytes | None]:
    """Read a SUBACK or UNSUBACK; return packet id, codes and properties."""
    cursor = Cursor(body)
    packet_id, properties = cursor.packet_id(), cursor.properties(mqtt5=mqtt5)
    return packet_id, cursor.rest(), properties


# DISCONNECT and AUTH of MQTT 5 (MQTT 5 §3.14, §3.15).


def reason_packet(kind: Kind, reason_code: int, properties: bytes = b"") -> bytes:
    """Write a DISCONNECT or AUTH with a reason code."""
    return packet(kind << 4, bytes((reason_code,)) + property_field(properties))


def read_reason(body: bytes) -> tuple[int, bytes]:
    """Read a DISCONNECT or AUTH; return reason code and properties."""
    cursor = Cursor(body)
    reason_code = cursor.byte() if cursor else 0
    return reason_code, (cursor.properties(mqtt5=True) if cursor else None) or b""
