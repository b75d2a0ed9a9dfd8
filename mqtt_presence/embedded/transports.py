"""Connections as bytes in and bytes out, whatever carries them; TCP is one of them."""

import asyncio
from typing import Any, Protocol

from mqtt_presence.mqtt.addresses import plain_address

HANG_UP_S = 1.0
"""How long a closing connection may take to read what is still for it."""


class Visitor(Protocol):
    """Somebody at the door."""

    def abort(self) -> None:
        """Close at once."""


class Transport(Visitor, Protocol):
    """A TCP connection or a WebSocket: bytes in, bytes out.

    It raises nothing but OSError; `receive` also ProtocolError, where what came breaks the protocol.
    """

    address: str

    async def receive(self) -> bytes:
        """Return what came, nothing when it is over."""

    async def send(self, data: bytes) -> None:
        """Send, and wait while the peer takes nothing."""

    async def close(self) -> None:
        """Send what is left, then close."""


class TcpTransport:
    """A TCP connection."""

    __slots__ = ("_reader", "_writer", "address")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.address = address_of(writer.get_extra_info("peername"))

    async def receive(self) -> bytes:
        """Return what came, nothing when it is over."""
        return await self._reader.read(1 << 16)

    async def send(self, data: bytes) -> None:
        """Send, and wait while the peer takes nothing."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """Send what is left, then close."""
        self._writer.close()
        await self._writer.wait_closed()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()


def address_of(peer: Any) -> str:
    """Return the address alone; one of IPv4 as such on a socket that takes both.

    Args:
        peer: what the socket says of its other end; nothing when that is gone.

    """
    return plain_address(str(peer[0])) if peer else ""
