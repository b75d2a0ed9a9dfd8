"""Transports: a client's network connection as bytes in and bytes out, over TCP or a WebSocket.

`TcpTransport` is here, `WebSocketTransport` in `embedded.websocket`, and the page's server has one of its
own.
"""

import asyncio
from typing import Any, Protocol

from mqtt_presence.mqtt.addresses import plain_address

CLOSE_TIMEOUT_S = 1.0
"""Seconds that a client has to read the last data before its network connection is aborted."""


class Abortable(Protocol):
    """A network connection that can be closed at once."""

    def abort(self) -> None:
        """Close at once."""


class Transport(Abortable, Protocol):
    """A TCP connection or a WebSocket that carries one stream of bytes in each direction.

    All methods raise OSError only; `receive` also raises ProtocolError if the client broke the protocol.
    """

    address: str

    async def receive(self) -> bytes:
        """Return the next bytes from the client; empty at the end."""

    async def send(self, data: bytes) -> None:
        """Send data, and wait until the client has taken enough of it."""

    async def close(self) -> None:
        """Send the remaining data, then close."""


class TcpTransport:
    """A TCP connection."""

    __slots__ = ("_reader", "_writer", "address")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.address = address_of(writer.get_extra_info("peername"))

    async def receive(self) -> bytes:
        """Return the next bytes from the client; empty at the end."""
        return await self._reader.read(1 << 16)

    async def send(self, data: bytes) -> None:
        """Send data, and wait until the client has taken enough of it."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """Send the remaining data, then close."""
        self._writer.close()
        await self._writer.wait_closed()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()


def address_of(socket_name: Any) -> str:
    """Return the IP address in a socket's name; an IPv4 address in its usual form on a dual-stack socket.

    Args:
        socket_name: the result of ``getpeername``; None if the socket is closed, which gives an empty text.

    """
    return plain_address(str(socket_name[0])) if socket_name else ""
