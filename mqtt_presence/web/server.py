"""The web server's life: bound before anything starts, served on the broker's loop or on one of its own."""

import asyncio
import concurrent.futures
import logging
import socket
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import uvicorn
from starlette.applications import Starlette

from mqtt_presence.errors import WebError
from mqtt_presence.mqtt.listening import explain_listen_error, listen
from mqtt_presence.web.application import make_app
from mqtt_presence.web.config import WebConfig
from mqtt_presence.web.uvicorn_limits import HEAD_BYTES, HttpProtocol, WebSocketProtocol

if TYPE_CHECKING:  # beside another broker there is no need of it
    from mqtt_presence.embedded import EmbeddedBroker

log = logging.getLogger(__name__)

PING_S: Final = 20.0
"""How often a WebSocket is asked whether it is still there, and how long it has to answer."""
GRACE_S: Final = 1
"""How long answers that are on the way have at the end."""
STOP_S: Final = 10.0
"""How long a stop waits for all of that."""


class WebServer:
    """Serves the live page.

    With a broker it runs on the broker's loop, so that MQTT in a WebSocket needs no hop between threads; it
    must stop before the broker does. Without one it has a thread and a loop of its own.

    Args:
        config: its settings.
        broker: started; None: it is elsewhere, at `WebConfig.mqtt_url`.

    """

    def __init__(self, config: WebConfig, broker: "EmbeddedBroker | None" = None) -> None:
        self.config = config
        self._broker = broker
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._done: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The TCP port that browsers connect to."""
        return self.config.port if self._socket is None else int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Start; when it returns, browsers can connect.

        Raises:
            WebError: the port cannot be had.

        """
        config = self.config
        try:
            self._socket = listen(config.host, config.port)
        except (OSError, OverflowError) as error:
            why = explain_listen_error(config.host, "web_port", config.port, error)
            raise WebError(f"{why}, or leave the page out: --no-web") from error
        app, self._api = make_app(
            config, self._authenticate, None if self._broker is None else self._broker.serve
        )
        self._server = uvicorn.Server(self._uvicorn(app))
        if self._broker is not None:
            self._done = self._broker.submit(self._serve(self._server, self._socket))
        else:
            self._done = _in_thread(self._serve(self._server, self._socket))

    def stop(self) -> None:
        """Close everything; harmless when stopped already."""
        if self._server is None or self._done is None:
            return
        self._server.should_exit = True
        done, _ = concurrent.futures.wait({self._done}, STOP_S)
        if not done:
            log.warning("the page has not stopped within %s s", STOP_S)
        self._done = None

    def _uvicorn(self, app: Starlette) -> uvicorn.Config:
        # Below that, whoever connects could fill the log.
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        return uvicorn.Config(
            app,
            http=HttpProtocol,
            ws=WebSocketProtocol,
            ws_max_size=HEAD_BYTES if self._broker is None else self._broker.config.max_packet_size,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_per_message_deflate=False,  # 50 KiB a connection, for messages of a hundred bytes
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_graceful_shutdown=GRACE_S,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # it would believe anyone on this machine who says to be somebody else
            server_header=False,
        )

    async def _serve(self, server: uvicorn.Server, sock: socket.socket) -> None:
        try:
            await server.serve(sockets=[sock])
        except Exception:
            log.exception("the page has ended")
            raise
        finally:
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            self._api.archive.close()

    async def _authenticate(self, user: str, password: str, address: str) -> bool:
        return self._broker is not None and await self._broker.authenticate(user, password, address)


def _in_thread(work: Coroutine[Any, Any, None]) -> concurrent.futures.Future[None]:
    """Run a coroutine on a loop of its own."""
    done: concurrent.futures.Future[None] = concurrent.futures.Future()

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 - for the test to see
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="web", daemon=True).start()
    return done
