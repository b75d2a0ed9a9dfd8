"""uvicorn's connections with limits: how many, how long a request takes, how much one turn of the loop is.

uvicorn bounds bodies and frames. What it leaves open, a stranger could use: connections without number,
requests that never end, peers that read nothing. The broker runs on the same loop, so no read may keep it for
long.
"""

import asyncio
import logging
from typing import Any, Final, Protocol

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

log = logging.getLogger(__name__)

CONNECTIONS: Final = 1000
"""How many there may be at a time, WebSockets included."""
REQUESTS: Final = 128
"""How many of them may be there for requests: each that is busy takes its share of the loop."""
HEAD_BYTES: Final = 16 * 1024
"""The longest head of a request."""
REQUEST_S: Final = 20.0
"""A connection on which no answer was completed for so long is cut; for twice as long at most."""
READ_BYTES: Final = 8 * 1024
"""What is read at once, and parsed in one turn of the loop; the smallest frames take milliseconds."""
FRAGMENTS: Final = 1024
"""Frames of which one message may consist."""
BACKLOG_BYTES: Final = 1 << 20
"""What may wait for a peer that sends pings and does not read the pongs."""
COMPLAIN_S: Final = 10.0
LINGER_S: Final = 0.5
"""How long a peer may take, at the end, to read what is still for it."""
_WIRE = "mqtt_presence.wire"


class Wire(Protocol):
    """The transport below a WebSocket: what ASGI has no word for."""

    async def gone(self) -> None:
        """Wait until the connection is closed."""

    def abort(self) -> None:
        """Close it at once, whatever is still to be sent."""


def wire(scope: Scope) -> Wire:
    """Return the transport below a WebSocket."""
    found: Wire = scope["extensions"][_WIRE]
    return found


class HttpProtocol(H11Protocol):
    """HTTP, with a limit of connections and of time."""

    _complained = -COMPLAIN_S

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._watch: asyncio.TimerHandle | None = None
        self._served = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or hang up when there are too many."""
        super().connection_made(transport)
        transport.max_size = READ_BYTES  # type: ignore[attr-defined] # asyncio's own buffer is 256 KiB
        if len(self.connections) > CONNECTIONS or self._requests() > REQUESTS:
            self._complain()
            transport.abort()
            return
        self._watch = self.loop.call_later(REQUEST_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._unwatch()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand over."""
        self._unwatch()
        super().handle_websocket_upgrade(event)

    def shutdown(self) -> None:
        """End soon: a close alone would wait until the peer has read everything."""
        super().shutdown()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def on_response_complete(self) -> None:
        """Note that the connection is good for something."""
        self._served = True
        super().on_response_complete()

    def _look(self) -> None:
        if not self._served:
            self.transport.abort()
            return
        self._served = False
        self._watch = self.loop.call_later(REQUEST_S, self._look)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _requests(self) -> int:
        return sum(isinstance(connection, HttpProtocol) for connection in self.connections)

    def _complain(self) -> None:
        now = self.loop.time()
        if now - HttpProtocol._complained >= COMPLAIN_S:
            HttpProtocol._complained = now
            log.warning(
                "connections=%d of the page, %d of them for requests, are too many: new ones are cut",
                len(self.connections),
                self._requests(),
            )


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose transport the application can see the end of, and cut."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._gone = asyncio.Event()

    # What is our own.

    async def gone(self) -> None:
        """Wait until the connection is closed."""
        await self._gone.wait()

    def abort(self) -> None:
        """Close it at once."""
        self.transport.abort()

    # What is uvicorn's.

    async def run_asgi(self) -> None:
        """Tell the application about us."""
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[_WIRE] = self
        await super().run_asgi()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits for it."""
        self._gone.set()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End soon, likewise."""
        super().shutdown()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def handle_cont(self, event: Any) -> None:
        """Refuse a message in fragments without end: empty ones add nothing to its size."""
        if len(self.frames) >= FRAGMENTS:
            self.abort()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer, unless the peer does not take the answers."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > BACKLOG_BYTES:
            self.abort()

    def keepalive_timeout(self) -> None:
        """Cut a peer that does not answer: a close would wait until it reads."""
        super().keepalive_timeout()
        self.abort()
