"""The broker as the rest of the package sees it, with a thread and an event loop of its own."""

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
from mqtt_presence.embedded.connect_request import Refused
from mqtt_presence.embedded.listeners import PresenceBroker
from mqtt_presence.embedded.router import Router
from mqtt_presence.embedded.transports import HANG_UP_S, Transport
from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.listening import explain_listen_error, listen
from mqtt_presence.mqtt.return_codes import Refusal
from mqtt_presence.protocol.topics import is_name

T = TypeVar("T")

DRAIN_S = 5.0
"""How long a stop waits for the bridge to acknowledge the last wills."""


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
        """Start listening; return when clients can connect.

        Raises:
            ConfigError: a setting is wrong, or would open the broker to the network without passwords.
            BrokerError: a port cannot be had, e.g. because another program has it.

        """
        if self._thread is not None:
            raise BrokerError("the embedded broker is running already")
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
        """End every connection but the bridge's: wills go out, and the bridge gets the time to commit them.

        No new client is let in. What the old ones say is not heard any more, but until ``stop`` they still
        get what is sent to them: the last statuses, the bridge's offline. Returns when the bridge has
        acknowledged everything, or is not there, or after the timeout. Not for the bridge's own thread.
        """
        if self._loop is None or self._broker is None:
            return
        drained = asyncio.run_coroutine_threadsafe(self._broker.drain(timeout_s), self._loop)
        drained.result(timeout_s + HANG_UP_S)

    def stop(self) -> None:
        """Drain, close every connection, stop the thread. Harmless when stopped already."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        with contextlib.suppress(concurrent.futures.TimeoutError):
            self.drain()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._close()

    @property
    def port(self) -> int:
        """The TCP port that clients connect to."""
        return self._ports[0] if self._ports else self.config.port

    @property
    def ws_port(self) -> int | None:
        """The WebSocket port, None when there is none."""
        return self._ports[1] if len(self._ports) > 1 else self.config.ws_port

    def client_address(self, user_id: str, client_id: str) -> str | None:
        """Return the address from which this user's client is, or was last, connected. Safe in any thread."""
        broker = self._broker
        return None if broker is None else broker.router.peers.get((user_id, client_id))

    def submit(self, work: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """Run a coroutine on the broker's loop, e.g. a server whose WebSockets go to `serve`.

        Args:
            work: it must end before `stop`.

        Raises:
            BrokerError: the broker does not run.

        """
        if self._loop is None:
            work.close()
            raise BrokerError("the embedded broker does not run")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def serve(self, transport: Transport) -> None:
        """Serve an MQTT client that came in elsewhere, until its end. On the broker's loop only (`submit`).

        Args:
            transport: its connection.

        """
        if self._broker is not None:
            await ClientConnection(self._broker.router, transport).run()

    async def authenticate(self, user: str, password: str, address: str) -> bool:
        """Say whether a client with this name and password would be let in. On the broker's loop only.

        Never the bridge, and nobody while the broker is open: then a name proves nothing. Wrong passwords
        count together with those of clients from the same address.
        """
        broker, config = self._broker, self.config
        if broker is None or config.open:
            return False
        if user == config.bridge_user or not is_name(user):
            refused: Refused | None = Refused(Refusal.BAD_NAME, "nobody of that name can be let in")
        else:
            refused = await broker.router.admission.admit(user, password.encode(), address)
        if refused is None:
            return True
        broker.router.admission.log_refusal(
            "at the page address=%s user=%s", address, quoted(user), refused=refused
        )
        return False

    async def _serve(self, passwords: PasswordFile | None, ready: concurrent.futures.Future[None]) -> None:
        try:
            broker = PresenceBroker(Router(self.config, passwords), self._sockets)
            await broker.start()
        except Exception as error:  # noqa: BLE001 - for the test to see
            ready.set_exception(error)
            return
        self._broker, self._loop, self._stopping = broker, asyncio.get_running_loop(), asyncio.Event()
        ready.set_result(None)
        await self._stopping.wait()
        await broker.hang_up()
        await broker.shutdown()
        broker.router.admission.close()

    def _close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._thread = self._loop = self._stopping = None


def _bind(config: EmbeddedConfig) -> list[socket.socket]:
    """Bind here, in the caller's thread: a port in use is the caller's to hear of, in one sentence."""
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
