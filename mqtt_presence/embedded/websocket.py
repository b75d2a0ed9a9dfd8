"""MQTT over WebSocket on a port of its own (MQTT 3.1.1 §6)."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from mqtt_presence.access.rate_limited_log import RateLimitedLog, quoted
from mqtt_presence.embedded.admission import Admission
from mqtt_presence.embedded.config import EmbeddedConfig
from mqtt_presence.embedded.transports import CLOSE_TIMEOUT_S, Transport, address_of
from mqtt_presence.mqtt.addresses import is_local_name, is_loopback, plain_origin
from mqtt_presence.mqtt.framing import ProtocolError

_log_limited = RateLimitedLog(logging.getLogger(__name__)).log

FRAME_SIZE = 1 << 16
"""Bytes in a WebSocket frame; some clients refuse frames over 1 MiB."""


async def serve_websockets(
    sock: socket.socket,
    config: EmbeddedConfig,
    admission: Admission,
    serve_client: Callable[[Transport], Awaitable[None]],
) -> Server:
    """Accept WebSockets.

    Args:
        sock: a listening socket.
        config: of the broker.
        admission: counts the pending connections.
        serve_client: serves a client until the end of its connection.

    """

    async def handler(websocket: ServerConnection) -> None:
        if isinstance(websocket, _PendingWebSocket):
            websocket.remove_pending()  # `ClientConnection` is pending from here on
        await serve_client(WebSocketTransport(websocket))

    return await serve(
        handler,
        sock=sock,
        subprotocols=[Subprotocol("mqtt")],
        process_request=partial(_refuse_foreign_page, config),
        compression=None,  # it takes 50 KiB a connection, and messages have about a hundred bytes
        create_connection=partial(_PendingWebSocket, admission),  # type: ignore[arg-type] # websockets only calls it
        max_size=config.max_packet_size,
        open_timeout=config.connect_timeout_s,
        close_timeout=CLOSE_TIMEOUT_S,
    )


def _refuse_foreign_page(
    config: EmbeddedConfig, connection: ServerConnection, request: Request
) -> Response | None:
    """Refuse pages of other sites, which a browser would let connect to an open broker on this machine."""
    origin = request.headers.get("Origin")
    if origin is None or not config.open or not is_loopback(config.host):
        return None
    named = plain_origin(origin)
    if named is not None and is_local_name(urlsplit(named).hostname or ""):
        return None
    return connection.respond(HTTPStatus.FORBIDDEN, "Only pages of this machine may connect.\n")


class WebSocketTransport:
    """A WebSocket, whose frames are pieces of one stream of bytes."""

    __slots__ = ("_websocket", "address")

    def __init__(self, websocket: ServerConnection) -> None:
        self._websocket = websocket
        self.address = address_of(websocket.remote_address)

    async def receive(self) -> bytes:
        """Return the next bytes from the client; empty at the end."""
        data: bytes | str = b""
        try:
            while not data:
                data = await self._websocket.recv()
        except ConnectionClosed:
            return b""
        if isinstance(data, str):
            raise ProtocolError("a text frame [MQTT-6.0.0-1]")
        return data

    async def send(self, data: bytes) -> None:
        """Send data, and wait until the client has taken enough of it."""
        try:
            for at in range(0, len(data), FRAME_SIZE):  # a packet may span frames [MQTT-6.0.0-2]
                await self._websocket.send(data[at : at + FRAME_SIZE])
        except ConnectionClosed as error:
            raise ConnectionResetError("the WebSocket is closed") from error

    async def close(self) -> None:
        """Send the remaining data, then close."""
        await self._websocket.close()

    def abort(self) -> None:
        """Close at once."""
        self._websocket.transport.abort()


class _PendingWebSocket(ServerConnection):
    """A network connection at the WebSocket port, pending from the TCP connection on."""

    def __init__(self, admission: Admission, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._admission = admission

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._admission.add_pending(self, address_of(transport.get_extra_info("peername")))
        super().connection_made(transport)

    async def handshake(self, *args: Any, **options: Any) -> None:
        """Agree on a WebSocket; a failure is logged in one line, because the client causes it."""
        try:
            await super().handshake(*args, **options)
        except InvalidHandshake as error:
            self.transport.abort()
            if not isinstance(error.__cause__, EOFError):  # the client closed before its request
                address = address_of(self.remote_address)
                _log_limited(
                    "no WebSocket for address=%s: %s", address, quoted(str(error)), level=logging.INFO
                )
        except (ConnectionClosed, OSError):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.remove_pending()
        super().connection_lost(exc)

    def remove_pending(self) -> None:
        self._admission.remove_pending(self)

    def abort(self) -> None:
        self.transport.abort()
