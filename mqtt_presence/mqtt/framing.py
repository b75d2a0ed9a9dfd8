"""The fixed header of MQTT packets (MQTT 3.1.1 §2.2, MQTT 5 §2.1), and the packets of a stream of bytes."""

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
    """Of MQTT 5 alone."""


class ProtocolError(Exception):
    """The other end broke the protocol: the connection is closed (§4.8), and the will goes out."""


class Packet(NamedTuple):
    """A packet as bytes."""

    kind: int
    """A `Kind`; 0 has no name."""
    flags: int
    body: bytes
    """The packet after its fixed header."""


def fixed_header(first: int, length: int) -> bytes:
    """Write a fixed header.

    Args:
        first: the first byte: the packet's type and flags.
        length: how many bytes follow the header, at most 268,435,455.

    """
    if length < 128:
        return bytes((first, length))
    if length < 16_384:  # most of them, and three times as fast as the loop
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
        The value, and where its bytes end; (0, 0) if the data ends before.

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
    """Yield where each packet, its body and the next packet begin.

    The last packet may be incomplete: the next one would begin beyond the data. A packet whose length is
    incomplete is not yielded.

    Raises:
        ProtocolError: a length is malformed.

    """
    at, end = 0, len(data)
    while (body := at + 2) <= end:
        length = data[at + 1]
        if length > 127:  # one or two bytes are nearly always all
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
        limit: the largest packet with its fixed header, bytes; None: any.

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
