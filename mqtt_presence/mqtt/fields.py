"""The fields of MQTT packets (MQTT 3.1.1 §1.5, MQTT 5 §1.5), written and read."""

import struct

from mqtt_presence.mqtt.framing import ProtocolError, fixed_header, read_length

uint16 = struct.Struct(">H").pack
"""Write a number in two bytes."""


class Cursor:
    """Reads the fields of a packet; true as long as something is left.

    Args:
        data: the packet after its fixed header.

    Raises:
        ProtocolError: by every method: the field is not all there, or is malformed.

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

    def uint16(self) -> int:
        """Read two bytes as a number (§1.5.2)."""
        return int.from_bytes(self.take(2))

    def binary(self) -> bytes:
        """Read bytes whose number stands before them."""
        return self.take(self.uint16())

    def text(self) -> str:
        """Read a string: UTF-8, no NUL (§1.5.3)."""
        try:
            text = self.binary().decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("a string is not UTF-8") from error
        if "\0" in text:
            raise ProtocolError("a string contains NUL")
        return text

    def packet_id(self) -> int:
        """Read a packet id, which is not 0 (§2.3.1)."""
        packet_id = self.uint16()
        if not packet_id:
            raise ProtocolError("packet id 0")
        return packet_id

    def properties(self, *, mqtt5: bool) -> bytes | None:
        """Read the properties of a packet of MQTT 5 (MQTT 5 §2.2.2)."""
        if not mqtt5:
            return None
        length, after = read_length(self._data, self._at)
        if not after:
            raise ProtocolError("the packet is shorter than its fields")
        self._at = after
        return self.take(length)

    def rest(self) -> bytes:
        """Return what is left."""
        return self._data[self._at :]


def length_prefixed(data: bytes | str) -> bytes:
    """Write a string or bytes with their number before them (§1.5.3)."""
    data = data.encode() if isinstance(data, str) else data
    return uint16(len(data)) + data


def packet(first: int, body: bytes) -> bytes:
    """Write a packet.

    Args:
        first: the first byte: type and flags.
        body: the packet after its fixed header.

    """
    return fixed_header(first, len(body)) + body


def property_field(properties: bytes | None) -> bytes:
    """Write the properties of a packet of MQTT 5 (MQTT 5 §2.2.2); None: it is one of MQTT 3.1.1."""
    return b"" if properties is None else packet(0, properties)[1:]
