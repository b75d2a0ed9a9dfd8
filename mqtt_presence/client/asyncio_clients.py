"""The clients for asyncio: the same machinery, with awaitable methods and callbacks in the event loop.

The connection runs in a thread of its own, as for the other clients. No method blocks the event loop.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from mqtt_presence.client import idle_monitor, presence_client, status_watcher
from mqtt_presence.client.asyncio_changes import AsyncChanges
from mqtt_presence.client.callbacks import OnBridge, OnConnect
from mqtt_presence.client.idle_state import DEFAULT_INTERVAL_S, DEFAULT_THRESHOLD_S
from mqtt_presence.client.loop_calls import LoopCalls, call_in_thread
from mqtt_presence.client.server_clock import ServerClock
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.client_messages import UserStatus


class ConnectOptions(TypedDict, total=False):
    """The keyword arguments of both clients; `mqtt_presence.StatusWatcher` explains them."""

    user: str | None
    password: str | None
    client_id: str | None
    prefix: str
    keep_alive: int
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    reconnect_min: float
    reconnect_max: float


class PresenceOptions(ConnectOptions, total=False):
    """The keyword arguments of `PresenceClient`; `mqtt_presence.PresenceClient` explains them."""

    user_agent: str | None
    idle_threshold: float | None
    timeout: float | None
    meta: Mapping[str, Any] | None
    announce: bool


class PresenceClient:
    """`mqtt_presence.PresenceClient` for asyncio: ``async with PresenceClient(url) as me:`` logs in and out.

    Args:
        url: ``mqtt[s]|ws[s]://user:password@host:port/path``.
        on_connect: called when the broker has accepted a connection and the login is sent.
        on_disconnect: called when such a connection has ended.
        on_bridge: called with True when the bridge comes online, with False when it goes. The callbacks run
            in the event loop and may be coroutine functions; exceptions are logged.
        options: as for `mqtt_presence.PresenceClient`.

    Raises:
        ConfigError: an argument is wrong; the message names it.

    """

    def __init__(
        self,
        url: str | BrokerUrl,
        *,
        on_connect: OnConnect | None = None,
        on_disconnect: OnConnect | None = None,
        on_bridge: OnBridge | None = None,
        **options: Unpack[PresenceOptions],
    ) -> None:
        self._calls = LoopCalls()
        self._client = presence_client.PresenceClient(
            url,
            on_connect=self._calls.callback(on_connect),
            on_disconnect=self._calls.callback(on_disconnect),
            on_bridge=self._calls.callback(on_bridge),
            **options,
        )
        self._monitor = IdleMonitor(self._client.monitor)

    async def connect(self, timeout: float = 10.0, *, wait: bool = True) -> None:
        """Connect and log in, as `mqtt_presence.PresenceClient.connect` does. Cancelled, it logs out again.

        Args:
            timeout: seconds to wait until the broker has acknowledged the login.
            wait: False: return at once, and keep trying until the broker can be reached.

        Raises:
            BrokerError: the broker cannot be reached, refuses the client, or does not acknowledge the login.
            PresenceError: the client is connected already.

        """
        self._calls.bind()
        await call_in_thread(lambda: self._client.connect(timeout, wait=wait), self._client.disconnect)

    async def disconnect(self, timeout: float = 5.0) -> bool:
        """Log out and disconnect; return whether the broker has acknowledged the logout.

        Args:
            timeout: seconds to wait for the acknowledgement.

        """
        return await asyncio.to_thread(self._client.disconnect, timeout)

    logout = disconnect

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    @property
    def user(self) -> str:
        """The user's name."""
        return self._client.user

    @property
    def client_id(self) -> str:
        """The name of this client of the user."""
        return self._client.client_id

    @property
    def connected(self) -> bool:
        """Whether the client is connected to the broker and has sent its login."""
        return self._client.connected

    @property
    def connection_id(self) -> str | None:
        """The id of the current connection, different for each connection; None while not connected."""
        return self._client.connection_id

    @property
    def bridge_connected(self) -> bool:
        """Whether the client is connected and the bridge is online according to `bridge/state`."""
        return self._client.bridge_connected

    @property
    def monitor(self) -> "IdleMonitor":
        """The idle monitor of this client: ``await start``, ``ping``, ``stop``."""
        return self._monitor

    @property
    def server_time(self) -> ServerClock:
        """The bridge's clock, as far as this client knows it; its `wait_synced` blocks."""
        return self._client.server_time

    def heartbeat(self) -> bool:
        """Send a sign of life that counts as activity (rule A1); return False while not connected."""
        return self._client.heartbeat()


class IdleMonitor:
    """`mqtt_presence.IdleMonitor` for asyncio; only `start` waits.

    Args:
        monitor: the monitor of the client.

    """

    def __init__(self, monitor: idle_monitor.IdleMonitor) -> None:
        self._monitor = monitor

    async def start(
        self,
        threshold: float = DEFAULT_THRESHOLD_S,
        interval: float = DEFAULT_INTERVAL_S,
        *,
        timeout: float = 5.0,
    ) -> None:
        """Start monitoring. The start counts as activity and is reported.

        Args:
            threshold: seconds without a ping after which the user is idle.
            interval: seconds between checks, at least 1.
            timeout: seconds to wait for the server time, which the reports need; 0: do not wait.

        Raises:
            ConfigError: `threshold` or `interval` is wrong.
            PresenceError: the monitor is running already, or the server time is unknown after `timeout`.

        """
        await asyncio.to_thread(self._monitor.start, threshold, interval, timeout=timeout)

    def stop(self) -> None:
        """Stop monitoring. An idle user is reported as active now.

        Raises:
            PresenceError: the monitor is not running.

        """
        self._monitor.stop()

    def ping(self) -> None:
        """Record activity, now. Has no effect while the monitor is stopped."""
        self._monitor.ping()

    @property
    def is_monitoring(self) -> bool:
        """Whether the monitor is running."""
        return self._monitor.is_monitoring

    @property
    def is_idle(self) -> bool:
        """Whether the monitor is running and the last ping is older than the threshold."""
        return self._monitor.is_idle

    @property
    def last_activity(self) -> datetime | None:
        """The last activity in server time, as an aware datetime in UTC; None before the first start."""
        return self._monitor.last_activity


class StatusWatcher(Mapping[str, UserStatus]):
    """`mqtt_presence.StatusWatcher` for asyncio: a mapping of user ids to `UserStatus`.

    ``async with StatusWatcher(url) as users:`` connects; ``async for change in users:`` begins with the
    present users and goes on with each change until the watcher is closed.

    Args:
        url: ``mqtt[s]|ws[s]://user:password@host:port/path``.
        on_connect: called when the broker has accepted a connection.
        on_disconnect: called when such a connection has ended.
        on_bridge: called with True when the bridge comes online, with False when it goes. The callbacks run
            in the event loop and may be coroutine functions; exceptions are logged.
        options: as for `mqtt_presence.StatusWatcher`.

    Raises:
        ConfigError: an argument is wrong; the message names it.

    """

    def __init__(
        self,
        url: str | BrokerUrl,
        *,
        on_connect: OnConnect | None = None,
        on_disconnect: OnConnect | None = None,
        on_bridge: OnBridge | None = None,
        **options: Unpack[ConnectOptions],
    ) -> None:
        self._calls = LoopCalls()
        self._watcher = status_watcher.StatusWatcher(
            url,
            on_connect=self._calls.callback(on_connect),
            on_disconnect=self._calls.callback(on_disconnect),
            on_bridge=self._calls.callback(on_bridge),
            **options,
        )

    async def connect(self, timeout: float = 10.0, *, wait: bool = True) -> None:
        """Connect, and from now on reconnect whenever the connection is lost. Cancelled, it disconnects.

        Args:
            timeout: seconds to wait until the broker has accepted the connection and the subscription.
            wait: False: return at once, and keep trying until the broker can be reached.

        Raises:
            BrokerError: the broker cannot be reached, refuses the client, or does not let it read statuses.
            PresenceError: the watcher is connected already.

        """
        self._calls.bind()
        await call_in_thread(lambda: self._watcher.connect(timeout, wait=wait), self._watcher.close)

    async def close(self) -> None:
        """Disconnect. Iterators over changes end; the mapping keeps its last state. May be repeated."""
        await asyncio.to_thread(self._watcher.close)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> "AsyncChanges":
        self._calls.bind()
        changes = AsyncChanges(self._calls)
        changes.begin(self._watcher.deliver_to(changes))
        return changes

    async def wait_for(self, predicate: Callable[["StatusWatcher"], bool], timeout: float = 10.0) -> bool:
        """Wait until a predicate is true; return False after the timeout.

        Args:
            predicate: called with the watcher after every change, e.g. ``lambda users: users["bob"].online``.
                A KeyError counts as False.
            timeout: seconds.

        """
        self._calls.bind()
        changed = asyncio.Event()
        with self._watcher.waking(lambda: self._calls.soon(changed.set)):
            try:
                async with asyncio.timeout(timeout):
                    while not self._watcher.holds(lambda _: predicate(self)):
                        await changed.wait()
                        changed.clear()
            except TimeoutError:
                return False
            return True

    @property
    def connected(self) -> bool:
        """Whether the watcher is connected to the broker."""
        return self._watcher.connected

    @property
    def bridge_connected(self) -> bool:
        """Whether the watcher is connected and the bridge is online according to `bridge/state`."""
        return self._watcher.bridge_connected

    @property
    def stale(self) -> bool:
        """Whether the mapping may be outdated, as `mqtt_presence.StatusWatcher.stale`."""
        return self._watcher.stale

    @property
    def ignored(self) -> dict[str, int]:
        """Dropped messages, counted by reason, as `mqtt_presence.StatusWatcher.ignored`."""
        return self._watcher.ignored

    def snapshot(self) -> dict[str, UserStatus]:
        """Return a copy of the mapping as of one moment."""
        return self._watcher.snapshot()

    def __getitem__(self, user_id: str) -> UserStatus:
        return self._watcher[user_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._watcher)

    def __len__(self) -> int:
        return len(self._watcher)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<aio.StatusWatcher {len(self)} users, connected={self.connected}>"
