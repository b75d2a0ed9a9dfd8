"""An ASGI middleware that gives an application the connection below, and ends a WebSocket's afterwards."""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from mqtt_presence.web.bounded_listener import AcceptedSocket, BoundedListener

CLOSING_S: Final = 1.0
"""Seconds that a client has to read the last bytes after its WebSocket's application has returned."""
_CONNECTION: Final = "mqtt_presence.connection"


class ConnectionAccess:
    """Puts the connection of a request or a WebSocket into its scope.

    Args:
        app: the application.
        listener: the socket that accepted the connection.

    """

    def __init__(self, app: ASGIApp, listener: BoundedListener) -> None:
        self._app = app
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; a WebSocket's connection is closed when the call returns."""
        connection = self._listener.find(scope)
        await self._app({**scope, _CONNECTION: connection}, receive, send)
        if connection is None or scope["type"] != "websocket":
            return
        # After a refusal, uvicorn logs an error if the application returns before the connection closes.
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                await connection.wait_closed()
        connection.abort()


def connection_of(scope: Scope) -> AcceptedSocket | None:
    """Return the connection below, None if it was closed before the application ran."""
    found: AcceptedSocket | None = scope[_CONNECTION]
    return found
