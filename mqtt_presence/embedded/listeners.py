"""The listeners and their life cycle: amqtt's part of the broker. No other module imports amqtt.

amqtt starts a listener for each entry of its configuration, keeps them in its table of servers, runs its
state machine (new, starting, started, stopping, stopped), and closes them at the shutdown. docs/embedded.md
has the reasons why amqtt handles no packet here.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from typing import Any, Final

from amqtt.broker import Broker
from amqtt.contexts import ListenerType

from mqtt_presence.embedded.client_connection import ClientConnection
from mqtt_presence.embedded.router import Router
from mqtt_presence.embedded.sessions import EndCause
from mqtt_presence.embedded.transports import TcpTransport, Transport
from mqtt_presence.embedded.websocket import serve_websockets

AMQTT_VERSION: Final = "0.12.1"
if version("amqtt") != AMQTT_VERSION:
    raise ImportError(
        f"the embedded broker needs amqtt {AMQTT_VERSION}, but {version('amqtt')} is installed:"
        f" pip install amqtt=={AMQTT_VERSION}"
    )

POLL_S = 0.01
"""Seconds between two checks whether the bridge has acknowledged everything."""

_log = logging.getLogger("mqtt_presence.embedded")


class PresenceBroker(Broker):  # type: ignore[misc] # amqtt ships no type information
    """amqtt's broker on sockets that are bound already; each network connection goes to `ClientConnection`.

    Args:
        router: of the broker.
        sockets: listening sockets; the first for TCP, the second, if there is one, for WebSockets.

    """

    def __init__(self, router: Router, sockets: Sequence[socket.socket]) -> None:
        self.router = router
        self._bound = dict(zip(("default", "ws"), sockets, strict=False))
        kinds = {"default": "tcp", "ws": "ws"}
        listeners = {name: {"type": kinds[name], "bind": "127.0.0.1:0"} for name in self._bound}
        super().__init__({"listeners": listeners, "plugins": {}})

    async def _create_server_instance(
        self, listener_name: str, listener_type: ListenerType, *_unused: str | int | ssl.SSLContext | None
    ) -> Any:
        sock = self._bound[listener_name]
        if listener_type == ListenerType.TCP:
            return await asyncio.start_server(self._serve_stream, sock=sock)
        return await serve_websockets(sock, self.router.config, self.router.admission, self._serve)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._serve(TcpTransport(reader, writer))

    def _serve(self, transport: Transport) -> Coroutine[Any, Any, None]:
        return ClientConnection(self.router, transport).run()

    async def drain(self, timeout_s: float) -> None:
        """End all connections except the bridge's; wait until the bridge has acknowledged all messages.

        Args:
            timeout_s: seconds to wait at most.

        """
        self.router.is_closing = True
        self.router.retained.stop()
        for server in self._servers.values():
            if isinstance(server.instance, asyncio.Server):
                server.instance.close()
            else:
                server.instance.close(close_connections=False)
        for connection in list(self.router.connections):
            if connection.session is None or not connection.session.bridge:
                connection.end(EndCause.SHUTDOWN)
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.router.bridge_is_behind() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)  # an event would need a check at every acknowledgement
        if self.router.bridge_is_behind():
            _log.error("the bridge has not acknowledged the last messages within %s s", timeout_s)

    async def close_connections(self) -> None:
        """Close the connections that are still open."""
        for connection in list(self.router.connections):
            connection.end(EndCause.SHUTDOWN)
        await asyncio.gather(*(connection.close() for connection in list(self.router.connections)))
