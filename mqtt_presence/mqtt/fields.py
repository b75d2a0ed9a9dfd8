"""The fields of MQTT packets, written and read (MQTT 3.1.1 §1.5, MQTT 5 §1.5)."""

import struct

from mqtt_presence.mqtt.framing import ProtocolError, fixed_header, read_length

uint16 = struct.Struct(">H").pack
"""Write an integer in two bytes."""


class Cursor:
    """Reads the fields of a packet one after another; true while bytes are left.

    Args:
        data: the packet after its fixed header.

    Raises:
        ProtocolError: by every method, if the field is incomplete or malformed.

    """

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, length: int) -> bytes:
        """Read a number of bytes."""
        self._at += length
        if self._at > len(self._data):
            raise ProtocolError("the packet is shorter than its fields")
        return self._data[self._at - length : self._at]

    def byte(self) -> int:
        """Read one byte."""
        return self.take(1)[0]

    def uint16(self) -> int:
        """Read a two byte integer (§1.5.2)."""
        return int.from_bytes(self.take(2))

    def binary(self) -> bytes:
        """Read bytes after their length (MQTT 5 §1.5.6)."""
        return self.take(self.uint16())

    def text(self) -> str:
        """Read a string of UTF-8 without NUL (§1.5.3)."""
        try:
            text = self.binary().decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("a string is not UTF-8") from error
        if "\0" in text:
            raise ProtocolError("a string contains NUL")
        return text

    def packet_id(self) -> int:
        """Read a packet id; 0 is an error (§2.3.1)."""
        packet_id = self.uint16()
        if not packet_id:
            raise ProtocolError("packet id 0")
        return packet_id

    def properties(self, *, mqtt5: bool) -> bytes | None:
        """Read the properties of a packet of MQTT 5 (MQTT 5 §2.2.2); None for MQTT 3.1.1, which has none."""
        if not mqtt5:
            return None
        length, after = read_length(self._data, self._at)
        if not after:
            raise ProtocolError("the packet is shorter than its fields")
        self._at = after
        return self.take(length)

    def rest(self) -> bytes:
        """Return the bytes that are left."""
        return self._data[self._at :]


def length_prefixed(data: bytes | str) -> bytes:
    """Write a string or bytes after their length (§1.5.3)."""
    data = data.encode() if isinstance(data, str) else data
    return uint16(len(data)) + data


def packet(first: int, body: bytes) -> bytes:
    """Write a packet.

    Args:
        first: the first byte, with the packet's type and flags.
        body: the packet after its fixed header.

    """
    return fixed_header(first, len(body)) + body


def property_field(properties: bytes | None) -> bytes:
    """Write properties after their length (MQTT 5 §2.2.2); no bytes for None, as in MQTT 3.1.1."""
    return b"" if properties is None else packet(0, properties)[1:]
