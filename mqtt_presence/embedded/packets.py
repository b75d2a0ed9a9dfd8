"""The packets of MQTT 3.1.1 (§2 and §3) as bytes: cut out of a stream, read, built. Pure."""

import enum
import struct
from collections.abc import Iterator
from typing import Final

PUBACK: Final = 0x40
PUBREC: Final = 0x50
PUBCOMP: Final = 0x70
UNSUBACK: Final = 0xB0
PINGRESP: Final = b"\xd0\x00"
SUBSCRIBE_REFUSED: Final = 0x80
"""A return code of SUBACK (§3.9.3)."""


class Kind(enum.IntEnum):
    """The packets that clients send (§2.2.1)."""

    CONNECT = 1
    PUBLISH = 3
    PUBACK = 4
    PUBREL = 6
    SUBSCRIBE = 8
    UNSUBSCRIBE = 10
    PINGREQ = 12
    DISCONNECT = 14


class ProtocolError(Exception):
    """The client broke the protocol: the connection is closed (§4.8), its will goes out."""


class Framer:
    """Cuts a byte stream into packets: (kind, flags, body).

    Args:
        limit: the longest that is taken, in bytes.

    """

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, chunk: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Take what the socket brought, yield the packets that are complete.

        Raises:
            ProtocolError: one is too long, or its length is malformed (§2.2.3).

        """
        buffer = self._buffer
        buffer += chunk
        at = 0
        while (frame := self._frame(at)) is not None:
            start, end = frame
            if end > len(buffer):
                break
            yield buffer[at] >> 4, buffer[at] & 15, bytes(buffer[start:end])
            at = end
        del buffer[:at]

    def _frame(self, at: int) -> tuple[int, int] | None:
        """Return where the body of the packet at this place begins and ends, None if not yet known."""
        length = 0
        for count, byte in enumerate(self._buffer[at + 1 : at + 5]):
            length |= (byte & 0x7F) << 7 * count
            if not byte & 0x80:
                start = at + count + 2
                if start + length - at > self._limit:
                    raise ProtocolError(f"a packet of {length} bytes is over max_packet_size={self._limit}")
                return start, start + length
        if len(self._buffer) >= at + 5:
            raise ProtocolError("the remaining length is malformed")
        return None


class Cursor:
    """Reads the fields of a packet; whatever is short or ill-formed is a ProtocolError.

    Args:
        data: the packet after its fixed header. True as long as something is left.

    """

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, length: int) -> bytes:
        """Read so many bytes."""
        self._at += length
        if self._at > len(self._data):
            raise ProtocolError("the packet is shorter than its fields")
        return self._data[self._at - length : self._at]

    def byte(self) -> int:
        """Read one byte."""
        return self.take(1)[0]

    def number(self) -> int:
        """Read two bytes as a number (§1.5.2)."""
        return int.from_bytes(self.take(2))

    def blob(self) -> bytes:
        """Read bytes whose number stands before them."""
        return self.take(self.number())

    def text(self) -> str:
        """Read a string: UTF-8, no NUL (§1.5.3)."""
        try:
            text = self.blob().decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("a string is not UTF-8") from error
        if "\0" in text:
            raise ProtocolError("a string contains NUL")
        return text

    def packet_id(self) -> int:
        """Read a packet id, which is not 0 (§2.3.1)."""
        packet_id = self.number()
        if not packet_id:
            raise ProtocolError("packet id 0")
        return packet_id

    def rest(self) -> bytes:
        """Return what is left."""
        return self._data[self._at :]


def id_packet(head: int, packet_id: int) -> bytes:
    """Build a packet that has only an id.

    Args:
        head: its first byte: PUBACK, PUBREC, PUBCOMP or UNSUBACK.
        packet_id: the id.

    """
    return struct.pack("!BBH", head, 2, packet_id)


def suback_packet(packet_id: int, codes: bytes) -> bytes:
    """Build a SUBACK (§3.9).

    Args:
        packet_id: that of the SUBSCRIBE.
        codes: a return code for each of its filters.

    """
    return bytes(_head(0x90, 2 + len(codes))) + struct.pack("!H", packet_id) + codes


def publish_packet(topic: str, payload: bytes, packet_id: int, *, retain: bool, dup: bool) -> bytes:
    """Build a PUBLISH (§3.3).

    Args:
        topic: its topic name.
        payload: its payload.
        packet_id: of one at QoS 1; 0: it is at QoS 0.
        retain: its flag.
        dup: its flag.

    """
    name = topic.encode()
    size = 2 + len(name) + (2 if packet_id else 0) + len(payload)
    head = _head(0x30 | (2 if packet_id else 0) | (8 if dup else 0) | retain, size)
    head += struct.pack("!H", len(name)) + name
    if packet_id:
        head += struct.pack("!H", packet_id)
    return bytes(head) + payload


def _head(first: int, size: int) -> bytearray:
    """Build a fixed header: the first byte, and how many bytes follow, seven bits in each (§2.2.3)."""
    head = bytearray((first,))
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return head
