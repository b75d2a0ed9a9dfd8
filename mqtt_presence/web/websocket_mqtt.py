"""MQTT over WebSocket, handed to a broker in this process: frames in, packets' bytes out (MQTT 3.1.1 §6)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from starlette.types import Message, Receive, Scope, Send

from mqtt_presence.web.config import WebConfig
from mqtt_presence.web.forwarded_address import address_of
from mqtt_presence.web.headers import read
from mqtt_presence.web.responses import refusal
from mqtt_presence.web.uvicorn_limits import wire

if TYPE_CHECKING:
    from mqtt_presence.embedded import Transport

SUBPROTOCOL: Final = "mqtt"
FRAME_SIZE: Final = 1 << 16
"""Bytes in a frame to the client: some clients take no more than 1 MiB."""
TURN_BYTES: Final = 4 * 1024
"""What the broker is given in one turn of the loop; it handles all packets in it at once."""
TURN_FRAMES: Final = 32
"""Frames taken in one turn."""

Serve = Callable[["Transport"], Awaitable[None]]


class MqttEndpoint:
    """An ASGI application that gives its WebSockets to a broker.

    Args:
        serve: serves one until its end.
        config: the server's.

    """

    def __init__(self, serve: Serve, config: WebConfig) -> None:
        self._serve = serve
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a client until its end."""
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
        address = address_of(self._config, str(client[0]) if client else "", read(scope))
        await self._serve(AsgiPipe(scope, receive, send, address))


class AsgiPipe:
    """A WebSocket as the broker wants it: bytes in, bytes out, and nothing raised but OSError."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, address: str) -> None:
        self._wire = wire(scope)
        self._receive = receive
        self._send = send
        self._rest = memoryview(b"")
        self._frames = 0
        self._closed = False
        self.address = address

    async def receive(self) -> bytes:
        """Return what came, nothing when it is over; others get their turn in between."""
        while not self._rest:
            await self._pause()
            event = await self._receive()
            if event["type"] != "websocket.receive":
                return b""
            self._rest = memoryview(_binary(event))
        piece, self._rest = self._rest[:TURN_BYTES], self._rest[TURN_BYTES:]
        if self._rest:
            await asyncio.sleep(0)
        return bytes(piece)

    async def send(self, data: bytes) -> None:
        """Send, and wait while the peer takes nothing."""
        for at in range(0, len(data), FRAME_SIZE):  # a packet may span frames [MQTT-6.0.0-2]
            await self._say({"type": "websocket.send", "bytes": data[at : at + FRAME_SIZE]})

    async def close(self) -> None:
        """Send what is left, then close."""
        if not self._closed:
            self._closed = True
            await self._say({"type": "websocket.close", "code": 1000})
        await self._wire.gone()

    def abort(self) -> None:
        """Close at once."""
        self._closed = True
        self._wire.abort()

    async def _pause(self) -> None:
        """Give way now and then: a queue that is never empty would keep the loop for itself."""
        self._frames = (self._frames + 1) % TURN_FRAMES
        if not self._frames:
            await asyncio.sleep(0)

    async def _say(self, event: Message) -> None:
        try:
            await self._send(event)
        except (
            RuntimeError
        ) as error:  # the peer has closed, or broken the protocol, and the server knows already
            raise ConnectionResetError("the WebSocket is closed") from error


def _binary(event: Message) -> bytes:
    data: bytes | None = event.get("bytes")
    if data is None:
        raise ConnectionAbortedError("a text frame [MQTT-6.0.0-1]")
    return data
