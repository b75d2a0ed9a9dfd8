"""`PresenceClient`: publishes the presence of one client of a user, with a will for its loss."""

import logging
import random
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

from mqtt_presence.client import clocks
from mqtt_presence.client.bridge_presence import BridgePresence
from mqtt_presence.client.callbacks import Callbacks, OnBridge, OnConnect
from mqtt_presence.client.connect_arguments import make_endpoint
from mqtt_presence.client.idle_monitor import IdleMonitor
from mqtt_presence.client.network_connection import Hooks, NetworkConnection, PublishReceipt, WillMessage
from mqtt_presence.client.reconnector import Reconnector
from mqtt_presence.client.server_clock import ServerClock
from mqtt_presence.errors import BrokerError, ConfigError, PayloadError
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol import client_messages, topics
from mqtt_presence.protocol.incoming import fresh_connection_id
from mqtt_presence.protocol.sizes import MAX_DURATION_S
from mqtt_presence.protocol.topics import Topics, require_name
from mqtt_presence.rules.model import ConnectionId

_log = logging.getLogger("mqtt_presence.client")


class _LoggedIn(NamedTuple):
    """A network connection with the id of its login, which all its messages carry."""

    connection: NetworkConnection
    connection_id: ConnectionId
    began: float
    """Steady seconds."""


class PresenceClient:
    """Keeps a user online while the program runs and the network works.

    ``with PresenceClient("mqtt://alice:secret@localhost") as me:`` connects and logs in; leaving the block
    logs out. If the connection is lost, the broker publishes the client's will. The client then reconnects
    and logs in as a new connection.

    Args:
        url: ``mqtt[s]|ws[s]://user:password@host:port/path``.
        user: the user's name; default: the user in the URL.
        password: overrides the password in the URL.
        client_id: the name of this client of the user; default: a random one. Clients that run at the same
            time need different ids.
        prefix: the beginning of every topic, as set for the bridge.
        user_agent: a description of this program, shown to operators.
        idle_threshold: seconds without activity after which the bridge considers this client idle (rule B1).
        timeout: seconds of silence after which the bridge ends the connection (rule B2).
        meta: other data for the record, at most 2 KiB as JSON.
        announce: log in again when the bridge asks for it (rule B3).
        keep_alive: MQTT keep alive, seconds. The broker notices a lost network after 1.5 times as long.
        ca_file: PEM file of the certificate authorities to trust; default: those of the system.
        cert_file: PEM file of the client's certificate.
        key_file: PEM file of the certificate's private key; default: `cert_file`.
        reconnect_min: the first delay before a reconnect, seconds; later delays double, with jitter.
        reconnect_max: the longest delay, seconds.
        on_connect: called when the broker has accepted a connection and the login is sent.
        on_disconnect: called when such a connection has ended.
        on_bridge: called with True when the bridge comes online, with False when it goes or the connection is
            lost. All three run in the connection's thread, so they must not block; exceptions are logged.

    Raises:
        ConfigError: an argument is wrong; the message names it.

    """

    def __init__(
        self,
        url: str | BrokerUrl,
        *,
        user: str | None = None,
        password: str | None = None,
        client_id: str | None = None,
        prefix: str = "",
        user_agent: str | None = None,
        idle_threshold: float | None = None,
        timeout: float | None = None,
        meta: Mapping[str, Any] | None = None,
        announce: bool = True,
        keep_alive: int = 30,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        reconnect_min: float = 1.0,
        reconnect_max: float = 30.0,
        on_connect: OnConnect | None = None,
        on_disconnect: OnConnect | None = None,
        on_bridge: OnBridge | None = None,
    ) -> None:
        endpoint = make_endpoint(
            url,
            user=user,
            password=password,
            client_id=client_id,
            keep_alive=keep_alive,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            reconnect_min=reconnect_min,
            reconnect_max=reconnect_max,
        )
        if endpoint.url.username is None:
            raise ConfigError("user is not set: presence needs a user name (user=, or in the URL)")
        self.user = require_name("user", endpoint.url.username)
        self.client_id = endpoint.client_id
        self._topics = Topics(prefix)
        self._reply_topic = self._topics.reply(self.user, self.client_id)
        self._announce = announce
        self._encode_login = partial(
            client_messages.encode_login,
            user_agent=user_agent,
            idle_threshold=_duration("idle_threshold", idle_threshold),
            timeout=_duration("timeout", timeout),
            announce=announce,
            meta=None if meta is None else client_messages.encode_meta(meta),
        )
        self._encode_login(fresh_connection_id())  # raises ConfigError now rather than on connecting
        self._next_id = fresh_connection_id()
        self._logged_in: _LoggedIn | None = None
        self._login_receipt: PublishReceipt | None = None
        self._answer_at: float | None = None
        """When to answer an announcement, steady seconds; None: there is none to answer."""
        self._bridge = BridgePresence()
        self._callbacks = Callbacks(on_connect, on_disconnect, on_bridge)
        self._clock = ServerClock(self._ask_time)
        self._monitor = IdleMonitor(self._send_report, self._clock)
        self._reconnector = Reconnector(
            endpoint,
            Hooks(
                will=self._will,
                up=self._up,
                message=self._message,
                tick=self._tick,
                down=self._down,
            ),
        )

    # Connecting

    def connect(self, timeout: float = 10.0, *, wait: bool = True) -> None:
        """Connect and log in, and from now on reconnect whenever the connection is lost.

        Args:
            timeout: seconds to wait until the broker has acknowledged the login.
            wait: False: return at once, and keep trying until the broker can be reached.

        Raises:
            BrokerError: the broker cannot be reached, refuses the client, or does not acknowledge the login.
            PresenceError: the client is connected already.

        """
        deadline = clocks.steady() + timeout
        self._reconnector.start(timeout, wait)
        if wait:
            login = self._login_receipt
            if login is None or not login.wait(max(0.1, deadline - clocks.steady())):
                self._reconnector.stop(clean=False)
                raise BrokerError(
                    f"the broker did not acknowledge the login in {timeout:g} s: "
                    f"may {self.user!r} write {self._topics.input(self.user, self.client_id, topics.LOGIN)}?"
                )

    def disconnect(self, timeout: float = 5.0) -> bool:
        """Log out and disconnect. Has no effect while not connected.

        If the broker does not acknowledge the logout, the connection is closed without a DISCONNECT, so that
        at least the will is published. The idle monitor stops.

        Args:
            timeout: seconds to wait for the acknowledgement.

        Returns:
            Whether the broker has acknowledged the logout. If False, the broker may still publish the will.

        """
        self._monitor.close()
        current, self._logged_in = self._logged_in, None
        sent = False
        if current is not None:
            topic = self._topics.input(self.user, self.client_id, topics.LOGOUT)
            receipt = current.connection.publish(topic, client_messages.encode_end(current.connection_id), 1)
            sent = receipt.wait(timeout)
        self._reconnector.stop(clean=sent)
        return sent

    logout = disconnect

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    @property
    def connected(self) -> bool:
        """Whether the client is connected to the broker and has sent its login."""
        return self.connection_id is not None

    @property
    def connection_id(self) -> str | None:
        """The id of the current connection, different for each connection; None while not connected."""
        current = self._logged_in
        return current.connection_id if current is not None and current.connection.is_up else None

    @property
    def bridge_connected(self) -> bool:
        """Whether the client is connected and the bridge is online according to `bridge/state`."""
        return self._bridge.online

    # Activity and time

    @property
    def monitor(self) -> IdleMonitor:
        """The idle monitor of this client: ``start``, ``ping``, ``stop``."""
        return self._monitor

    @property
    def server_time(self) -> ServerClock:
        """The bridge's clock, as far as this client knows it."""
        return self._clock

    def heartbeat(self) -> bool:
        """Send a sign of life that counts as activity (rule A1), also for the idle monitor.

        Not queued while disconnected, because the next login counts as activity too.

        Returns:
            Whether the heartbeat was sent; False while not connected.

        """
        return self._send_activity(None, self._monitor.beat(), 0)

    def _send_report(self, idle: bool, last_activity: int) -> bool:
        return self._send_activity(idle, last_activity, 1)

    def _send_activity(self, idle: bool | None, last_activity: int | None, qos: int) -> bool:
        current = self._logged_in
        if current is None or not current.connection.is_up:
            return False
        payload = client_messages.encode_activity(
            current.connection_id, idle=idle, last_activity=last_activity
        )
        current.connection.publish(
            self._topics.input(self.user, self.client_id, topics.ACTIVITY), payload, qos
        )
        return True

    def _ask_time(self, payload: bytes) -> None:
        current = self._logged_in
        if current is not None and current.connection.is_up:
            current.connection.publish(self._topics.input(self.user, self.client_id, topics.TIME), payload, 0)

    # Hooks, called in the thread of the connection

    def _will(self) -> WillMessage:
        self._next_id = fresh_connection_id()
        topic = self._topics.input(self.user, self.client_id, topics.WILL)
        return WillMessage(topic, client_messages.encode_end(self._next_id))

    def _up(self, connection: NetworkConnection) -> None:
        filters = [(self._topics.bridge_state, 1), (self._reply_topic, 0)]
        if self._announce:
            filters.append((self._topics.bridge_announce, 1))
        connection.subscribe(filters)
        current = _LoggedIn(connection, self._next_id, clocks.steady())
        self._log_in(current)
        self._logged_in = current  # after the login: other threads must not send before it
        self._monitor.renew()
        self._clock.tick()
        self._callbacks.connected()

    def _tick(self) -> None:
        self._clock.tick()
        if self._answer_at is not None and clocks.steady() >= self._answer_at:
            self._answer_announcement()

    def _down(self) -> None:
        self._logged_in = None
        self._answer_at = None  # the login of the next connection answers, too
        self._bridge.reset()
        self._clock.connection_lost()
        self._callbacks.disconnected()

    def _log_in(self, current: _LoggedIn) -> None:
        payload = self._encode_login(current.connection_id, time=self._clock.at(current.began))
        topic = self._topics.input(self.user, self.client_id, topics.LOGIN)
        self._login_receipt = current.connection.publish(topic, payload, 1)

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        try:
            if topic == self._reply_topic:
                self._clock.receive(payload)
            elif topic == self._topics.bridge_state:
                if self._bridge.receive(payload):
                    self._clock.bridge_appeared()
                self._callbacks.bridge(online=self._bridge.online)
            elif topic == self._topics.bridge_announce and not retained:
                self._receive_announcement(payload)
        except PayloadError as error:
            _log.debug("%s: ignored: %s", topic, error)

    def _receive_announcement(self, payload: bytes) -> None:
        within = client_messages.decode_announcement(payload)
        if not within:
            self._answer_announcement()
            return
        answer_at = clocks.steady() + random.uniform(0, within)  # noqa: S311, spreads load only
        # One login answers several announcements.
        self._answer_at = answer_at if self._answer_at is None else min(answer_at, self._answer_at)

    def _answer_announcement(self) -> None:
        self._answer_at = None
        current = self._logged_in
        if current is not None:
            self._log_in(current)
            self._monitor.renew()


def _duration(name: str, seconds: float | None) -> float | None:
    if seconds is not None and not 0 < seconds <= MAX_DURATION_S:
        raise ConfigError(f"{name}={seconds} must be seconds above 0, or None")
    return seconds
