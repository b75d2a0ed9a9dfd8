"""The embedded broker as the rest of the package uses it, with a thread and an event loop of its own."""

import asyncio
import concurrent.futures
import contextlib
import socket
import threading
from collections.abc import Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from mqtt_presence.access.passwords import PasswordFile
from mqtt_presence.access.rate_limited_log import quoted
from mqtt_presence.embedded.client_connection import ClientConnection
from mqtt_presence.embedded.config import EmbeddedConfig, check
from mqtt_presence.embedded.connect_request import Rejection
from mqtt_presence.embedded.listeners import PresenceBroker
from mqtt_presence.embedded.router import Router
from mqtt_presence.embedded.transports import CLOSE_TIMEOUT_S, Transport
from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.listening import explain_listen_error, listen
from mqtt_presence.mqtt.return_codes import Refusal
from mqtt_presence.protocol.topics import is_name

T = TypeVar("T")

DRAIN_S = 5.0
"""Seconds that a stop waits until the bridge has acknowledged the last wills."""


class EmbeddedBroker:
    """An MQTT 3.1.1 broker on an event loop of its own, in a background thread."""

    def __init__(self, config: EmbeddedConfig) -> None:
        self.config = config
        self._sockets: list[socket.socket] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broker: PresenceBroker | None = None
        self._stopping: asyncio.Event | None = None
        self._ports: list[int] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start to listen; return when clients can connect.

        Raises:
            ConfigError: a setting is wrong, or would open the broker to the network without passwords.
            BrokerError: a port is not available, e.g. because another program uses it.

        """
        if self._thread is not None:
            raise BrokerError("the embedded broker is already running")
        passwords = check(self.config)
        self._sockets = _bind(self.config)
        self._ports = [sock.getsockname()[1] for sock in self._sockets]
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        serve = partial(self._serve, passwords, ready)
        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="mqtt-broker", daemon=True)
        self._thread.start()
        try:
            ready.result()
        except Exception as error:
            self._thread.join()
            self._close()
            raise BrokerError(f"the embedded broker cannot start: {error}") from error

    def drain(self, timeout_s: float = DRAIN_S) -> None:
        """End the connections of all clients except the bridge, and wait until it has committed their wills.

        New clients are rejected, and further packets of the connected ones are ignored. Until ``stop`` those
        still receive messages: the last statuses, and the bridge's offline. The method returns when the
        bridge has acknowledged all messages, if no bridge is connected, or after the timeout. The bridge's
        own thread must not call it.

        Args:
            timeout_s: seconds to wait at most.

        """
        if self._loop is None or self._broker is None:
            return
        drained = asyncio.run_coroutine_threadsafe(self._broker.drain(timeout_s), self._loop)
        drained.result(timeout_s + CLOSE_TIMEOUT_S)

    def stop(self) -> None:
        """Drain, close all connections and end the thread. Harmless when the broker is stopped."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        with contextlib.suppress(concurrent.futures.TimeoutError):
            self.drain()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._close()

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._ports[0] if self._ports else self.config.port

    @property
    def ws_port(self) -> int | None:
        """The WebSocket port; None if there is none."""
        return self._ports[1] if len(self._ports) > 1 else self.config.ws_port

    def client_address(self, user_id: str, client_id: str) -> str | None:
        """Return the address of a client's current or last network connection; None if it is unknown.

        Any thread may call it.
        """
        broker = self._broker
        return None if broker is None else broker.router.addresses.get((user_id, client_id))

    def submit(self, work: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """Run a coroutine on the broker's event loop, e.g. a server that passes its WebSockets to `serve`.

        Args:
            work: the coroutine, which must end before `stop`.

        Raises:
            BrokerError: the broker is not running.

        """
        if self._loop is None:
            work.close()
            raise BrokerError("the embedded broker is not running")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def serve(self, transport: Transport) -> None:
        """Serve an MQTT client that another server has accepted, until the end of its connection.

        The coroutine runs on the broker's event loop only (`submit`).

        Args:
            transport: carries the bytes.

        """
        if self._broker is not None:
            await ClientConnection(self._broker.router, transport).run()

    async def authenticate(self, user: str, password: str, address: str) -> bool:
        """Return whether a password is the user's. Runs on the broker's event loop only (`submit`).

        The result is always False for the bridge, and for all users of an open broker, where a name proves no
        identity. Wrong passwords count together with those of MQTT clients from the same address.
        """
        broker, config = self._broker, self.config
        if broker is None or config.open:
            return False
        if user == config.bridge_user or not is_name(user):
            rejection: Rejection | None = Rejection(Refusal.BAD_NAME, "no user can log in with this name")
        else:
            rejection = await broker.router.admission.authenticate(user, password.encode(), address)
        if rejection is None:
            return True
        broker.router.admission.log_rejection(
            "at the page address=%s user=%s", address, quoted(user), rejection=rejection
        )
        return False

    async def _serve(self, passwords: PasswordFile | None, ready: concurrent.futures.Future[None]) -> None:
        try:
            broker = PresenceBroker(Router(self.config, passwords), self._sockets)
            await broker.start()
        except Exception as error:  # noqa: BLE001 - `start` raises it
            ready.set_exception(error)
            return
        self._broker, self._loop, self._stopping = broker, asyncio.get_running_loop(), asyncio.Event()
        ready.set_result(None)
        await self._stopping.wait()
        await broker.close_connections()
        await broker.shutdown()
        broker.router.admission.close()

    def _close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._thread = self._loop = self._stopping = None


def _bind(config: EmbeddedConfig) -> list[socket.socket]:
    """Bind the sockets in the caller's thread, so that the caller gets the error of a port in use."""
    sockets: list[socket.socket] = []
    for setting, port in (("port", config.port), ("ws_port", config.ws_port)):
        if port is None:
            continue
        try:
            sockets.append(listen(config.host, port))
        except (OSError, OverflowError) as error:
            for sock in sockets:
                sock.close()
            raise BrokerError(explain_listen_error(config.host, setting, port, error)) from error
    return sockets
