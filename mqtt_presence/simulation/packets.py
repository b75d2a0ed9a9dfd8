"""As much of MQTT 3.1.1 on the wire as simulated clients need: packets to write, and to take apart."""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mqtt_presence.mqtt.return_codes import FAILURE, connack_words_311

CONNACK = 0x20
PUBLISH = 0x30
PUBACK = 0x40
SUBACK = 0x90
DISCONNECT = b"\xe0\x00"
PINGREQ = b"\xc0\x00"


def connect(
    client_id: str,
    *,
    username: str | None,
    password: str | None,
    will: tuple[str, bytes] | None = None,
    keep_alive_s: int,
) -> bytes:
    """Make a CONNECT of a clean session, with a QoS 1 will if there is one."""
    flags = 0x02
    tail = _text(client_id)
    if will is not None:
        flags |= 0x04 | 0x08
        tail += _text(will[0]) + _field(will[1])
    if username is not None:
        flags |= 0x80
        tail += _text(username)
    if password is not None:
        flags |= 0x40
        tail += _text(password)
    return _packet(0x10, _text("MQTT") + bytes((4, flags)) + struct.pack("!H", keep_alive_s) + tail)


def publish(topic: str, payload: bytes, packet_id: int) -> bytes:
    """Make a PUBLISH at QoS 1."""
    return _packet(PUBLISH | 0x02, _text(topic) + struct.pack("!H", packet_id) + payload)


def subscribe(topic_filters: Sequence[str], packet_id: int) -> bytes:
    """Make a SUBSCRIBE at QoS 0."""
    return _packet(0x82, struct.pack("!H", packet_id) + b"".join(_text(f) + b"\0" for f in topic_filters))


def unsubscribe(topic_filters: Sequence[str], packet_id: int) -> bytes:
    """Make an UNSUBSCRIBE."""
    return _packet(0xA2, struct.pack("!H", packet_id) + b"".join(map(_text, topic_filters)))


class Packet(NamedTuple):
    """A packet as it came."""

    kind: int
    """The first four bits, e.g. `PUBACK`."""
    flags: int
    body: bytes

    @property
    def packet_id(self) -> int:
        """Of a PUBACK or SUBACK."""
        return int.from_bytes(self.body[:2], "big")

    @property
    def refusal(self) -> str | None:
        """Why a CONNACK lets us not in; None: it does."""
        code = self.body[1]
        return connack_words_311(code) if code else None

    @property
    def is_denied(self) -> bool:
        """A SUBACK that grants not all of it."""
        return any(code & FAILURE for code in self.body[2:])

    def message(self) -> tuple[str, bytes, bool]:
        """Take a PUBLISH apart: topic, payload, and whether it is a retained one."""
        end = 2 + int.from_bytes(self.body[:2], "big")
        start = end + (2 if self.flags & 0x06 else 0)
        return self.body[2:end].decode(errors="replace"), self.body[start:], bool(self.flags & 0x01)


class Reader:
    """Makes packets of bytes as they come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that are complete now."""
        data = self._rest + data
        start = 0
        while (found := _bounds(data, start)) is not None:
            body, end = found
            yield Packet(data[start] & 0xF0, data[start] & 0x0F, data[body:end])
            start = end
        self._rest = data[start:]


def _bounds(data: bytes, start: int) -> tuple[int, int] | None:
    """Tell where the body of the packet begins and ends; None: it is not complete."""
    length = 0
    for number in range(4):
        at = start + 1 + number
        if at >= len(data):
            return None
        length |= (data[at] & 0x7F) << (7 * number)
        if data[at] < 0x80:
            end = at + 1 + length
            return (at + 1, end) if end <= len(data) else None
    raise ValueError("a packet without a length: this is not MQTT")


def _field(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def _text(text: str) -> bytes:
    return _field(text.encode())


def _packet(head: int, body: bytes) -> bytes:
    length, rest = bytearray(), len(body)
    while True:
        rest, low = divmod(rest, 128)
        length.append(low | (0x80 if rest else 0))
        if not rest:
            return bytes((head,)) + bytes(length) + body
