"""uvicorn's connections with limits: how many, how long a request takes, how much one turn of the loop is.

uvicorn bounds bodies and frames. What it leaves open, a stranger could use: connections without number,
requests that never end, peers that read nothing. The broker runs on the same loop, so no read may keep it for
long.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Protocol, TypeVar

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from mqtt_presence.access.rate_limited_log import RateLimitedLog
from mqtt_presence.mqtt.addresses import network_of

_complain = RateLimitedLog(logging.getLogger(__name__)).log

CONNECTIONS: Final = 1000
"""How many there may be at a time, WebSockets included."""
REQUESTS: Final = 256
"""How many of them may be there for requests; a browser has six. Each that is busy takes its share of the
loop."""
SHARE: Final = 4
"""A network that has more than one in so many of them makes room itself, when there are too many."""
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
LINGER_S: Final = 0.5
"""How long a peer may take, at the end, to read what is still for it."""
_UNSUPPORTED_DATA: Final = 1003
"""The code of a WebSocket's close (RFC 6455 §7.4.1)."""
_WIRE = "mqtt_presence.web.wire"


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


class Place(Protocol):
    """What a connection for requests is judged by when there are too many."""

    @property
    def network(self) -> str:
        """Where it comes from."""

    @property
    def is_busy(self) -> bool:
        """A request is in progress, or its answer on the way."""

    @property
    def waits_since(self) -> float:
        """When it was last answered, or made."""


T = TypeVar("T", bound=Place)


def superfluous(places: Iterable[T]) -> T | None:
    """Tell which connection has to go for a new one; None: there is none.

    The one that has waited longest without a request: who connects asks at once, and a browser that has its
    answer connects again when it wants more. Where all are busy, the one that has been longest. But if one
    network has a great part of them, it is one of its own: nobody can shut the others out.

    Args:
        places: those there are, the new one not.

    """
    places = list(places)
    if not places:
        return None
    crowd, its = Counter(place.network for place in places).most_common(1)[0]
    if its * SHARE > REQUESTS:
        places = [place for place in places if place.network == crowd]
    return min(places, key=lambda place: (place.is_busy, place.waits_since))


class HttpProtocol(H11Protocol):
    """HTTP, with a limit of connections and of time."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._watch: asyncio.TimerHandle | None = None
        self._served = False
        self.network = ""
        self.waits_since = 0.0

    @property
    def is_busy(self) -> bool:
        """A request is in progress, or its answer on the way."""
        asked = self.cycle is not None and not self.cycle.response_complete
        return asked or self.transport.get_write_buffer_size() > 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; when there are too many, one has to go."""
        super().connection_made(transport)
        transport.max_size = READ_BYTES  # type: ignore[attr-defined] # asyncio's own buffer is 256 KiB
        self.network = network_of(self.client[0] if self.client else "")
        self.waits_since = self.loop.time()
        self._watch = self.loop.call_later(REQUEST_S, self._look)
        for_requests = [other for other in self.connections if isinstance(other, HttpProtocol)]
        if len(self.connections) > CONNECTIONS or len(for_requests) > REQUESTS:
            _complain(
                "connections=%d of the page, %d of them for requests, are too many: the oldest are closed",
                len(self.connections),
                len(for_requests),
            )
            others = [other for other in for_requests if other is not self]
            (superfluous(others) or self).cut()

    def cut(self) -> None:
        """End at once, and count no more."""
        self.connections.discard(self)
        self.transport.abort()

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
        self.waits_since = self.loop.time()
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

    async def send(self, message: Any) -> None:
        """Send; uvicorn does not note that a refusal ends the handshake, and would log an error for each."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def handle_text(self, event: Any) -> None:
        """Refuse text [MQTT-6.0.0-1]; uvicorn would log a traceback for text that is no UTF-8."""
        del event
        self.conn.fail(_UNSUPPORTED_DATA, "text frames are no MQTT")
        self.handle_parser_exception()

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
