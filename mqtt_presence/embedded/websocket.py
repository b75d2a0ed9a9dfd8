"""MQTT over WebSocket at a port of its own (MQTT 3.1.1 §6); nothing else in the broker imports websockets."""

import asyncio
import logging
import socket
import urllib.parse
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from mqtt_presence.access.rate_limited_log import RateLimitedLog, quoted
from mqtt_presence.embedded.admission import Admission
from mqtt_presence.embedded.config import EmbeddedConfig
from mqtt_presence.embedded.transports import HANG_UP_S, Transport, address_of
from mqtt_presence.mqtt.addresses import is_local_name, is_loopback
from mqtt_presence.mqtt.framing import ProtocolError

_log_limited = RateLimitedLog(logging.getLogger(__name__)).log

FRAME_SIZE = 1 << 16
"""Bytes in a WebSocket frame: some clients take no more than 1 MiB."""


async def serve_websockets(
    sock: socket.socket,
    config: EmbeddedConfig,
    admission: Admission,
    handle: Callable[[Transport], Awaitable[None]],
) -> Server:
    """Accept WebSockets.

    Args:
        sock: it listens.
        config: of the broker.
        admission: where they wait until they are WebSockets.
        handle: serves one until its end.

    """

    async def take(websocket: ServerConnection) -> None:
        if isinstance(websocket, _WebSocket):
            websocket.leave()  # and now waits as any other
        await handle(WebSocketTransport(websocket))

    return await serve(
        take,
        sock=sock,
        subprotocols=[Subprotocol("mqtt")],
        process_request=partial(_refuse_foreign_page, config),
        compression=None,  # 50 KiB a connection, for messages of a hundred bytes
        create_connection=partial(_WebSocket, admission),  # type: ignore[arg-type] # called, that is all
        max_size=config.max_packet_size,
        open_timeout=config.connect_timeout_s,
        close_timeout=HANG_UP_S,
    )


def _refuse_foreign_page(
    config: EmbeddedConfig, connection: ServerConnection, request: Request
) -> Response | None:
    """Keep pages of other sites out of an open broker on this machine: a browser would let them in."""
    origin = request.headers.get("Origin")
    if origin is None or not config.open or not is_loopback(config.host):
        return None
    try:
        host = urllib.parse.urlsplit(origin).hostname
    except ValueError:  # a bracket where none may be
        host = None
    if host is not None and is_local_name(host):
        return None
    return connection.respond(HTTPStatus.FORBIDDEN, "Only pages of this machine may connect.\n")


class WebSocketTransport:
    """A WebSocket; its frames are pieces of one stream of bytes."""

    __slots__ = ("_websocket", "address")

    def __init__(self, websocket: ServerConnection) -> None:
        self._websocket = websocket
        self.address = address_of(websocket.remote_address)

    async def receive(self) -> bytes:
        """Return what came, nothing when it is over."""
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
        """Send, and wait while the peer takes nothing."""
        try:
            for at in range(0, len(data), FRAME_SIZE):  # a packet may span frames [MQTT-6.0.0-2]
                await self._websocket.send(data[at : at + FRAME_SIZE])
        except ConnectionClosed as error:
            raise ConnectionResetError("the WebSocket is closed") from error

    async def close(self) -> None:
        """Send what is left, then close."""
        await self._websocket.close()

    def abort(self) -> None:
        """Close at once."""
        self._websocket.transport.abort()


class _WebSocket(ServerConnection):
    """A WebSocket that waits at the door from its first byte on."""

    def __init__(self, admission: Admission, *what: Any, **how: Any) -> None:
        super().__init__(*what, **how)
        self._entrance = admission

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._entrance.arrive(self, address_of(transport.get_extra_info("peername")))
        super().connection_made(transport)

    async def handshake(self, *what: Any, **how: Any) -> None:
        """Shake hands; a peer that cannot is no error of the broker's, and needs no traceback in the log."""
        try:
            await super().handshake(*what, **how)
        except InvalidHandshake as error:
            self.transport.abort()
            if not isinstance(error.__cause__, EOFError):  # it went without a word
                address = address_of(self.remote_address)
                _log_limited(
                    "no WebSocket with address=%s: %s", address, quoted(str(error)), level=logging.INFO
                )
        except (ConnectionClosed, OSError):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()
        super().connection_lost(exc)

    def leave(self) -> None:
        self._entrance.leave(self)

    def abort(self) -> None:
        self.transport.abort()
