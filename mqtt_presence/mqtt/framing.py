"""The fixed header of MQTT packets, and the packets in a stream of bytes (MQTT 3.1.1 §2.2, MQTT 5 §2.1)."""

import enum
from collections.abc import Iterator
from typing import NamedTuple


class Kind(enum.IntEnum):
    """The types of control packets (§2.2.1)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15
    """MQTT 5 only."""


class ProtocolError(Exception):
    """The other end broke the protocol, so its network connection is closed (§4.8)."""


class Packet(NamedTuple):
    """A packet, with its body still in bytes."""

    kind: int
    """A `Kind`, or 0, which is reserved."""
    flags: int
    body: bytes
    """The packet after its fixed header."""


def fixed_header(first: int, length: int) -> bytes:
    """Write a fixed header.

    Args:
        first: the first byte, with the packet's type and flags.
        length: of the rest of the packet in bytes, at most 268,435,455.

    """
    if length < 128:
        return bytes((first, length))
    if length < 16_384:  # most packets; three times as fast as the loop
        return bytes((first, length & 127 | 128, length >> 7))
    header = bytearray((first,))
    while length > 127:
        header.append(length & 127 | 128)
        length >>= 7
    header.append(length)
    return bytes(header)


def read_length(data: bytes, at: int) -> tuple[int, int]:
    """Read a variable byte integer: a remaining length, or the length of properties.

    Returns:
        The value and the index after its bytes; (0, 0) if the data ends earlier.

    Raises:
        ProtocolError: the value has more than four bytes.

    """
    length = 0
    for shift in (0, 7, 14, 21):
        if at >= len(data):
            return 0, 0
        byte = data[at]
        at += 1
        length |= (byte & 127) << shift
        if byte < 128:
            return length, at
    raise ProtocolError("the remaining length is malformed")


def frames(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield for each packet the indexes of its first byte, of its body, and of the next packet.

    The last packet may be incomplete: its last index is then beyond the data. A packet with an incomplete
    length is not yielded.

    Raises:
        ProtocolError: a length is malformed.

    """
    at, end = 0, len(data)
    while (body := at + 2) <= end:
        length = data[at + 1]
        if length > 127:  # nearly every length has one or two bytes
            if body < end and data[body] < 128:
                length, body = length & 127 | data[body] << 7, body + 1
            else:
                length, body = read_length(data, at + 1)
                if not body:
                    return
        after = body + length
        yield at, body, after
        at = after


class Framer:
    """Cuts a stream of bytes into packets.

    Args:
        limit: bytes in a packet with its fixed header; None: no limit.

    """

    __slots__ = ("_limit", "_needed", "_rest")

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._needed = 0

    def feed(self, chunk: bytes) -> Iterator[Packet]:
        """Yield the packets that are complete with the next bytes of the stream.

        Raises:
            ProtocolError: a packet is too large, or its length is malformed.

        """
        rest = self._rest
        if rest:
            rest += chunk
            if len(rest) < self._needed:
                return
            chunk = bytes(rest)
            rest.clear()
        start, end, limit, self._needed = 0, len(chunk), self._limit, 0
        for at, body, after in frames(chunk):
            if limit is not None and after - at > limit:
                raise ProtocolError(f"a packet of {after - body} bytes is over max_packet_size={limit}")
            if after > end:
                self._needed = after - at
                break
            first = chunk[at]
            yield Packet(first >> 4, first & 15, chunk[body:after])
            start = after
        rest += chunk[start:]
