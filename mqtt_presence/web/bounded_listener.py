"""The page's listening socket: a bound on all its connections, each of which can be closed at once.

The web server has no setting that bounds open sockets, and ASGI has no message that ends a connection whose
client reads nothing. Both belong to the socket, so the socket has them.
"""

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Any, Final

from starlette.types import Scope

from mqtt_presence.access.rate_limited_log import RateLimitedLog

_log = RateLimitedLog(logging.getLogger(__name__)).log

CONNECTIONS: Final = 1000
"""Open connections of the page, WebSockets included; a further one is closed."""
RECEIVE_BYTES: Final = 16 * 1024
"""Receive buffer of a connection, and so the size of a read: small frames take milliseconds to parse."""

_Ends = tuple[tuple[str, int], tuple[str, int]]


class AcceptedSocket(socket.socket):
    """A connection of the page. The event loop closes it; `abort` makes the loop do so at once."""

    def __init__(self, listener: "BoundedListener", accepted: socket.socket, ends: _Ends) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._listener = listener
        self.ends = ends
        self._ended = asyncio.Event()

    def close(self) -> None:
        """Close the socket, and make room for another one."""
        super().close()
        self._ended.set()
        self._listener.forget(self)

    async def wait_closed(self) -> None:
        """Wait until the event loop has closed the socket."""
        await self._ended.wait()

    def abort(self) -> None:
        """End the connection: no further byte is received, and bytes that still wait are not sent."""
        with suppress(OSError):  # the client has closed it already
            self.shutdown(socket.SHUT_RDWR)


class BoundedListener(socket.socket):
    """A listening socket that closes further connections while there are `CONNECTIONS`.

    Args:
        bound: the listening socket to take over.

    """

    def __init__(self, bound: socket.socket) -> None:
        super().__init__(bound.family, bound.type, bound.proto, fileno=bound.detach())
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)  # accepted sockets inherit it
        self._open: dict[_Ends, AcceptedSocket] = {}

    @property
    def connection_count(self) -> int:
        """The number of open connections."""
        return len(self._open)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            ConnectionAbortedError: the page has as many connections as it may have; the new one is closed.

        """
        accepted, address = super().accept()
        if self.connection_count >= CONNECTIONS:
            accepted.close()
            _log("connections=%d are the most that the page serves: another was closed", CONNECTIONS)
            raise ConnectionAbortedError("too many connections")
        connection = AcceptedSocket(self, accepted, (_end(address), _end(accepted.getsockname())))
        self._open[connection.ends] = connection
        return connection, address

    def find(self, scope: Scope) -> AcceptedSocket | None:
        """Return the open connection that an ASGI scope belongs to, None if it is closed already."""
        client, server = scope.get("client"), scope.get("server")
        return self._open.get((_end(client), _end(server))) if client and server else None

    def forget(self, connection: AcceptedSocket) -> None:
        """Make room: the connection is closed."""
        self._open.pop(connection.ends, None)

    async def close_connections(self) -> None:
        """End all connections, and wait until the event loop has closed them."""
        connections = list(self._open.values())
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.wait_closed()


def _end(address: Any) -> tuple[str, int]:
    return str(address[0]), int(address[1])
