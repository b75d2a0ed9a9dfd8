"""One network connection to the broker, from CONNECT to its end: the clients' only user of paho.

Every connection has a paho client of its own, so that nothing of an old one (unacknowledged messages, packet
ids, the will) can get into a new one. The thread that calls `serve` does all reading and writing; every other
thread only queues. What the hooks raise is logged here: in a paho callback it would end the thread.
"""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from mqtt_presence.client.connect_arguments import Endpoint
from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.paho_client import prepare, transport
from mqtt_presence.mqtt.return_codes import BAD_USER_NAME_OR_PASSWORD, connack_words

_log = logging.getLogger("mqtt_presence.client")
_TICK_S = 0.5


class Will(NamedTuple):
    """What the broker is to publish if the connection is lost."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Hooks:
    """What to call as a connection comes and goes, always in the thread that serves it."""

    will: Callable[[], Will | None]
    """Return the will of the connection that is about to be opened."""
    up: Callable[["NetworkConnection"], None]
    """The broker has accepted it."""
    message: Callable[[str, bytes, bool], None]
    """A message has come: topic, payload, and whether it is a retained one."""
    tick: Callable[[], None]
    """Do what is due; called at least twice a second while it is up."""
    down: Callable[[], None]
    """The connection that was up has ended."""
    subscribed: Callable[[], None] = lambda: None
    """The broker has answered a subscription; `NetworkConnection.denied` has the refused filters."""


class NameNeededError(BrokerError):
    """The broker refuses a connection that gives no user name (MQTT 3.1.1 §3.2.2.3, return code 4)."""


class Receipt:
    """Tells whether the broker has acknowledged a message."""

    def __init__(self, info: MQTTMessageInfo, connection: "NetworkConnection") -> None:
        self._info = info
        self._connection = connection

    def wait(self, timeout: float) -> bool:
        """Wait until it has; False: it did not in time, or the connection ended. Not for the hooks.

        Args:
            timeout: seconds.

        """
        deadline = time.monotonic() + timeout
        try:
            while not self._info.is_published():
                left = deadline - time.monotonic()
                if left <= 0 or self._connection.ended:
                    return False
                self._info.wait_for_publish(min(left, 0.1))
        except (RuntimeError, ValueError):
            return False
        return True


class NetworkConnection:
    """A connection that has yet to be opened.

    Args:
        endpoint: where to, and as whom.
        hooks: whom to tell.
        timeout: seconds for each step until the broker has accepted it.

    """

    def __init__(self, endpoint: Endpoint, hooks: Hooks, timeout: float) -> None:
        self.is_up = False
        self.ended = False
        self._endpoint = endpoint
        self._hooks = hooks
        self._timeout = timeout
        self.denied: list[str] = []
        """The topic filters that the broker did not grant."""
        self._subscriptions: deque[list[tuple[str, int]]] = deque()
        self._subscribed = threading.Event()
        self._refused: str | None = None
        self._is_name_needed = False
        self._abandoned = False
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=endpoint.client_id,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
            transport=transport(endpoint.url),
            reconnect_on_failure=False,
        )
        tls = None if endpoint.tls is None else endpoint.tls.context()
        prepare(client, endpoint.url, timeout_s=timeout, tls=tls)
        will = hooks.will()
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        self._client = client

    def serve(self) -> None:
        """Open the connection and serve it until it ends.

        Raises:
            NameNeededError: the broker refused it because it gives no user name.
            BrokerError: it could not be opened, or the broker refused it.

        """
        url = self._endpoint.url
        try:
            self._client.connect(url.host, url.port, self._endpoint.keep_alive)
        except Exception as error:
            # Not only OSError: a strange answer to the WebSocket handshake, a host that IDNA does not take
            self._end()
            raise BrokerError(f"{url} cannot be reached: {error}") from error
        try:
            self._loop()
        finally:
            self._end()
        if self._refused is not None:
            refusal = NameNeededError if self._is_name_needed else BrokerError
            raise refusal(f"{url} refuses us: {self._refused}")

    def _loop(self) -> None:
        deadline = time.monotonic() + self._timeout
        while not self._abandoned and self._client.loop(_TICK_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            if self.is_up:
                guard(self._hooks.tick)
            elif time.monotonic() > deadline:
                self._refused = f"no answer to CONNECT in {self._timeout:g} s"
                return

    def _end(self) -> None:
        self.ended = True
        self.is_up = False
        self.abort()
        # Else the client, this object and its file descriptors would wait for the garbage collector.
        client = self._client
        client.on_connect = client.on_subscribe = client.on_message = None

    def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> Receipt:
        """Queue a message; from any thread."""
        return Receipt(self._client.publish(topic, payload, qos, retain), self)

    def subscribe(self, filters: list[tuple[str, int]]) -> None:
        """Queue a subscription to topic filters with their QoS; from one thread."""
        self._subscriptions.append(filters)  # before it is sent: another thread reads the answer
        self._client.subscribe(filters)

    def unsubscribe(self, filters: list[str]) -> None:
        """Queue an end of subscriptions; from any thread."""
        self._client.unsubscribe(filters)

    def wait_subscribed(self, timeout: float) -> bool:
        """Wait until the broker has answered the subscription; False: not in time. Not for the hooks."""
        return self._subscribed.wait(timeout)

    def disconnect(self) -> None:
        """Queue a DISCONNECT: the broker discards the will. From any thread."""
        self._client.disconnect()

    def abort(self) -> None:
        """Give up the socket without a DISCONNECT: the broker publishes the will. From any thread."""
        self._abandoned = True
        with suppress(Exception), _duplicate(self._client.socket()) as sock:
            sock.shutdown(socket.SHUT_RDWR)

    # Called by paho.

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refused = connack_words(reason.value)
            self._is_name_needed = (
                self._endpoint.url.username is None and reason.value == BAD_USER_NAME_OR_PASSWORD
            )
            return
        self.is_up = True
        guard(self._hooks.up, self)

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, codes: Any, _properties: Any) -> None:
        filters = self._subscriptions.popleft() if self._subscriptions else []  # answers come in order
        denied = [name for (name, _), code in zip(filters, codes, strict=False) if code.is_failure]
        if denied:
            self.denied += denied
            _log.warning("%s does not let us read %s", self._endpoint.url, ", ".join(denied))
        self._subscribed.set()
        guard(self._hooks.subscribed)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        guard(self._pass_on, message)

    def _pass_on(self, message: MQTTMessage) -> None:
        self._hooks.message(message.topic, bytes(message.payload), message.retain)


def guard(call: Callable[..., None], *args: Any) -> None:
    """Call a hook and log what it raises."""
    try:
        call(*args)
    except Exception:  # noqa: BLE001, user code
        _log.exception("a callback failed")


def _duplicate(sock: Any) -> socket.socket:
    """Return a socket object for the TCP connection below TLS and WebSocket; closing it leaves that open."""
    return socket.socket(fileno=os.dup(sock.fileno()))
