"""The bytes on their way to one client, sent in one piece for each turn of the event loop."""

import asyncio
from collections.abc import Callable

from mqtt_presence.embedded.transports import Transport

BUFFER_LIMIT = 64 * 1024
"""Bytes in the buffer; beyond it messages wait in the session's queue."""
PACKET_OVERHEAD = 48
"""Memory of a packet in the buffer beside its own bytes, counted with them."""


class SendBuffer:
    """Collects packets for a transport and sends them.

    Args:
        transport: carries the bytes; it is aborted when sending fails.
        on_sent: called when the transport has taken some of the bytes.

    """

    __slots__ = ("_on_sent", "_packets", "_sending", "_transport", "size")

    def __init__(self, transport: Transport, on_sent: Callable[[], None]) -> None:
        self._transport = transport
        self._on_sent = on_sent
        self._packets: list[bytes] = []
        self._sending: asyncio.Task[None] | None = None
        self.size = 0

    def has_room(self) -> bool:
        """Return whether more packets may be added."""
        return self.size < BUFFER_LIMIT

    @property
    def is_overfull(self) -> bool:
        """Whether the client leaves so many answers unread that its next packets have to wait."""
        return self.size > 2 * BUFFER_LIMIT

    def add(self, packet: bytes) -> None:
        """Add a packet, to be sent in the next turn of the event loop."""
        self._packets.append(packet)
        self.size += len(packet) + PACKET_OVERHEAD
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def wait_until_sent(self) -> None:
        """Wait until the buffer is empty or sending has failed."""
        if self._sending is not None:
            await self._sending

    async def _send(self) -> None:
        try:
            while self._packets:
                data, size = b"".join(self._packets), self.size
                self._packets.clear()
                await self._transport.send(data)
                self.size -= size
                self._on_sent()
                if self._packets:
                    await asyncio.sleep(0)  # a client that takes all data at once must not hold the loop
        except OSError:
            self._transport.abort()  # the connection ends when it reads next
        finally:
            self._sending = None
