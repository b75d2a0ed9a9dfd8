"""The web server: start and stop, on the event loop of the embedded broker or on one of its own."""

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Coroutine
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import uvicorn
from starlette.types import ASGIApp

from mqtt_presence.bridge.monitoring.monitor import Monitor
from mqtt_presence.errors import WebError
from mqtt_presence.mqtt.listening import explain_listen_error, listen
from mqtt_presence.web.application import make_app
from mqtt_presence.web.bounded_listener import CONNECTIONS, BoundedListener
from mqtt_presence.web.config import Monitoring, WebConfig
from mqtt_presence.web.connection_access import ConnectionAccess

if TYPE_CHECKING:  # the page of another broker runs without the embedded one
    from mqtt_presence.embedded import EmbeddedBroker

log = logging.getLogger(__name__)

BUSY_CONNECTIONS: Final = CONNECTIONS - 40
"""From so many connections on, requests are answered with 503; the rest is for WebSockets of loaded pages."""
HEAD_BYTES: Final = 16 * 1024
"""Bytes in the head of a request, at most."""
KEEP_ALIVE_S: Final = 10
"""Seconds that a connection stays open after an answer, without another request."""
BACKLOG: Final = 256
"""Connections that may wait to be accepted: the modules of the page for some forty browsers."""
PING_S: Final = 20.0
"""Seconds between two pings of a WebSocket, and seconds that the client has to answer one."""
GRACE_S: Final = 1
"""Seconds that requests in progress have when the server stops."""
STOP_S: Final = 10.0
"""Seconds that `WebServer.stop` waits for the end of the server."""


class WebServer:
    """Serves the live page.

    Beside the embedded broker the server runs on the broker's event loop, so that no frame crosses threads.
    The server must stop before the broker. Otherwise the server has a thread and an event loop of its own.

    Args:
        config: the configuration of the server.
        broker: the started embedded broker; None for another one, at `WebConfig.mqtt_url`.
        monitor: reads the bridge; None for a page without a bridge.

    """

    def __init__(
        self, config: WebConfig, broker: "EmbeddedBroker | None" = None, monitor: Monitor | None = None
    ) -> None:
        self.config = config
        self._broker = broker
        self._monitor = monitor or Monitor()
        self._listener: BoundedListener | None = None
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
        return self.config.port if self._listener is None else int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Start the server. Browsers can connect when the call returns.

        Raises:
            WebError: the port cannot be used.

        """
        config = self.config
        try:
            self._listener = BoundedListener(listen(config.host, config.port))
        except (OSError, OverflowError) as error:
            is_page = config.monitoring is not Monitoring.ALONE
            port = "web_port" if is_page else "monitor_port"
            why = explain_listen_error(config.host, port, config.port, error)
            raise WebError(f"{why}, or leave the page out: --no-web" if is_page else why) from error
        if self._broker is not None:
            config = replace(config, mqtt_port=self._broker.port)
        serve = None if self._broker is None else self._broker.serve
        app, self._services = make_app(config, self._authenticate, serve, self._monitor)
        self._server = uvicorn.Server(self._uvicorn_config(ConnectionAccess(app, self._listener)))
        serving = self._serve(self._server, self._listener)
        self._done = _run_in_thread(serving) if self._broker is None else self._broker.submit(serving)

    def statuses_changed(self) -> None:
        """Give the streams the sign that statuses may have changed. From any thread; returns at once."""
        if self._server is not None:
            self._services.feed.notify()

    def stop(self) -> None:
        """Stop the server and close its connections. A second call has no effect."""
        if self._server is None or self._done is None:
            return
        self._services.feed.close()
        self._server.should_exit = True
        done, _ = concurrent.futures.wait({self._done}, STOP_S)
        if not done:
            log.warning("the web server has not stopped within %s s", STOP_S)
        self._done = None

    def _uvicorn_config(self, app: ASGIApp) -> uvicorn.Config:
        logging.getLogger("uvicorn").setLevel(logging.ERROR)  # clients could fill the log with warnings
        logging.getLogger("uvicorn.error").addFilter(_is_our_error)
        return uvicorn.Config(
            app,
            http="h11",
            ws="websockets-sansio",
            limit_concurrency=BUSY_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            backlog=BACKLOG,
            ws_max_size=HEAD_BYTES if self._broker is None else self._broker.config.max_packet_size,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_per_message_deflate=False,  # 50 KiB for each connection, whose messages have a hundred bytes
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_graceful_shutdown=GRACE_S,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # uvicorn would accept a false address from any program on this machine
            server_header=False,
        )

    async def _serve(self, server: uvicorn.Server, listener: BoundedListener) -> None:
        try:
            await server.serve(sockets=[listener])
        except Exception:
            log.exception("the web server has failed")
            raise
        finally:
            await listener.close_connections()
            self._services.database.close()
            self._services.forgetting.close()

    async def _authenticate(self, user: str, password: str, address: str) -> bool:
        return self._broker is not None and await self._broker.authenticate(user, password, address)


def _is_our_error(record: logging.LogRecord) -> bool:
    """Return whether uvicorn logs an error of the server, not a client's text frame that is not UTF-8."""
    return record.exc_info is None or not isinstance(record.exc_info[1], UnicodeDecodeError)


def _run_in_thread(work: Coroutine[Any, Any, None]) -> concurrent.futures.Future[None]:
    """Run a coroutine on an event loop of its own."""
    done: concurrent.futures.Future[None] = concurrent.futures.Future()

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 - the future carries it
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="web", daemon=True).start()
    return done
