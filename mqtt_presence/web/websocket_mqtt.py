"""MQTT over WebSocket for the embedded broker: from ASGI messages to bytes, and back (MQTT 3.1.1 §6)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from starlette.types import Message, Receive, Scope, Send

from mqtt_presence.web.config import WebConfig
from mqtt_presence.web.connection_access import connection_of
from mqtt_presence.web.forwarded_address import client_address
from mqtt_presence.web.headers import headers_of
from mqtt_presence.web.responses import refusal

if TYPE_CHECKING:
    from mqtt_presence.embedded import Transport

SUBPROTOCOL: Final = "mqtt"
FRAME_SIZE: Final = 1 << 16
"""Bytes in a frame to the client; some clients accept at most 1 MiB."""
TURN_BYTES: Final = 4 * 1024
"""Bytes that the broker receives in one turn of the event loop; it handles all their packets at once."""
TURN_FRAMES: Final = 32
"""Messages received in one turn of the event loop."""

Serve = Callable[["Transport"], Awaitable[None]]


class MqttEndpoint:
    """An ASGI application that hands its WebSockets to a broker.

    Args:
        serve: serves a WebSocket until its end.
        config: the configuration of the web server.

    """

    def __init__(self, serve: Serve, config: WebConfig) -> None:
        self._serve = serve
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a client until its WebSocket ends; answer any other request with a refusal."""
        if scope["type"] != "websocket":
            answer = refusal(
                426,
                "this is MQTT over WebSocket: connect with ws://",
                {"upgrade": "websocket", "connection": "upgrade"},
            )
            await answer(scope, receive, send)
            return
        if SUBPROTOCOL not in scope["subprotocols"]:
            await refusal(400, f"the WebSocket subprotocol must be {SUBPROTOCOL}")(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
        client = scope["client"]
        address = client_address(self._config, str(client[0]) if client else "", headers_of(scope))
        await self._serve(AsgiTransport(scope, receive, send, address))


class AsgiTransport:
    """A WebSocket as the broker uses it: bytes in, bytes out. Errors are subclasses of OSError."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, address: str) -> None:
        self._connection = connection_of(scope)
        self._receive = receive
        self._send = send
        self._unread = memoryview(b"")
        self._messages = 0
        self._closed = False
        self.address = address

    async def receive(self) -> bytes:
        """Return the next bytes, an empty string at the end. Other tasks run in between."""
        while not self._unread:
            await self._yield_sometimes()
            event = await self._receive()
            if event["type"] != "websocket.receive":
                return b""
            self._unread = memoryview(_binary(event))
        piece, self._unread = self._unread[:TURN_BYTES], self._unread[TURN_BYTES:]
        if self._unread:
            await asyncio.sleep(0)
        return bytes(piece)

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait while the client does not read."""
        for at in range(0, len(data), FRAME_SIZE):  # a packet may span frames [MQTT-6.0.0-2]
            await self._send_message({"type": "websocket.send", "bytes": data[at : at + FRAME_SIZE]})

    async def close(self) -> None:
        """Close the WebSocket after the bytes already sent, and wait until the connection ends."""
        if not self._closed:
            self._closed = True
            await self._send_message({"type": "websocket.close", "code": 1000})
        if self._connection is not None:
            await self._connection.wait_closed()

    def abort(self) -> None:
        """Close the connection at once, whatever the client has still to read."""
        self._closed = True
        if self._connection is not None:
            self._connection.abort()

    async def _yield_sometimes(self) -> None:
        """Let other tasks run: a queue that is never empty would occupy the event loop."""
        self._messages = (self._messages + 1) % TURN_FRAMES
        if not self._messages:
            await asyncio.sleep(0)

    async def _send_message(self, message: Message) -> None:
        try:
            await self._send(message)
        except RuntimeError as error:  # the WebSocket was closed by the client, or by the server for an error
            raise ConnectionResetError("the WebSocket is closed") from error


def _binary(event: Message) -> bytes:
    data: bytes | None = event.get("bytes")
    if data is None:
        raise ConnectionAbortedError("a text frame [MQTT-6.0.0-1]")
    return data
