"""One network connection of a client to the broker, from CONNECT to its end.

Every connection has a paho client of its own. So unacknowledged messages, packet ids and the will of an old
connection cannot get into a new one. The thread that calls `serve` does all reading and writing, and other
threads only queue messages. Exceptions of the hooks are logged: in a paho callback they would end the thread.
"""

import logging
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
from mqtt_presence.mqtt.paho_sockets import duplicate
from mqtt_presence.mqtt.port_advice import port_advice
from mqtt_presence.mqtt.return_codes import BAD_USER_NAME_OR_PASSWORD, connack_words

_log = logging.getLogger("mqtt_presence.client")
_TICK_S = 0.5


class WillMessage(NamedTuple):
    """The message that the broker publishes if the connection is lost."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Hooks:
    """Callbacks of a connection, always called in the thread that serves it."""

    will: Callable[[], WillMessage | None]
    """Returns the will of a connection that is about to be opened."""
    up: Callable[["NetworkConnection"], None]
    """The broker has accepted the connection."""
    message: Callable[[str, bytes, bool], None]
    """A message has arrived: its topic, its payload, and whether it is a retained message."""
    tick: Callable[[], None]
    """Called at least twice a second while the connection is up, for regular work."""
    down: Callable[[], None]
    """A connection that was up has ended."""
    subscribed: Callable[[], None] = lambda: None
    """The broker has answered a subscription; `NetworkConnection.denied` has the refused filters."""


class NameNeededError(BrokerError):
    """The broker refuses a connection without a user name (MQTT 3.1.1 §3.2.2.3, return code 4)."""


class PublishReceipt:
    """The acknowledgement of a published message, which may still be pending."""

    def __init__(self, info: MQTTMessageInfo, connection: "NetworkConnection") -> None:
        self._info = info
        self._connection = connection

    def wait(self, timeout: float) -> bool:
        """Wait for the acknowledgement; return False after the timeout or the end of the connection.

        Must not be called by the hooks, which run in the thread that reads the acknowledgement.

        Args:
            timeout: seconds.

        """
        deadline = time.monotonic() + timeout
        try:
            while not self._info.is_published():
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0 or self._connection.ended:
                    return False
                self._info.wait_for_publish(min(remaining_s, 0.1))
        except (RuntimeError, ValueError):
            return False
        return True


class NetworkConnection:
    """A network connection that `serve` opens.

    Args:
        endpoint: the broker, and the user and client id to connect with.
        hooks: the callbacks.
        timeout: seconds for each step until the broker has accepted the connection.

    """

    def __init__(self, endpoint: Endpoint, hooks: Hooks, timeout: float) -> None:
        self.is_up = False
        self.ended = False
        self._endpoint = endpoint
        self._hooks = hooks
        self._timeout = timeout
        self.denied: list[str] = []
        """Topic filters to which the broker refused a subscription."""
        self._subscriptions: deque[list[tuple[str, int]]] = deque()
        self._subscribed = threading.Event()
        self._refused: str | None = None
        self._unanswered: str | None = None
        """How the broker left the CONNECT without an answer."""
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
            NameNeededError: the broker refused the connection because it has no user name.
            BrokerError: the broker could not be reached, or refused the connection.

        """
        url = self._endpoint.url
        try:
            self._client.connect(url.host, url.port, self._endpoint.keep_alive)
        except Exception as error:
            # Not only OSError: also a malformed WebSocket handshake, or a host name that IDNA refuses.
            self._end()
            raise BrokerError(f"{url} cannot be reached: {error}{port_advice(url, error)}") from error
        try:
            self._loop()
        finally:
            self._end()
        if self._unanswered is not None:
            raise BrokerError(f"{url} {self._unanswered}{port_advice(url)}")
        if self._refused is not None:
            refusal = NameNeededError if self._is_name_needed else BrokerError
            raise refusal(f"{url} refuses us: {self._refused}")

    def _loop(self) -> None:
        deadline = time.monotonic() + self._timeout
        while not self._abandoned and self._client.loop(_TICK_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            if self.is_up:
                guard(self._hooks.tick)
            elif time.monotonic() > deadline:
                self._unanswered = f"did not answer in {self._timeout:g} s"
                return
        if not (self.is_up or self._abandoned or self._refused):
            self._unanswered = "closed the connection without an answer"

    def _end(self) -> None:
        self.ended = True
        self.is_up = False
        self.abort()
        # Break the reference cycle: otherwise file descriptors stay open until the garbage collector runs.
        client = self._client
        client.on_connect = client.on_subscribe = client.on_message = None

    def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> PublishReceipt:
        """Queue a message. May be called from any thread."""
        return PublishReceipt(self._client.publish(topic, payload, qos, retain), self)

    def subscribe(self, filters: list[tuple[str, int]]) -> None:
        """Queue a subscription to topic filters with their QoS. Always call it from the same thread."""
        self._subscriptions.append(filters)  # before sending: another thread reads the answer
        self._client.subscribe(filters)

    def unsubscribe(self, filters: list[str]) -> None:
        """Queue an UNSUBSCRIBE. May be called from any thread."""
        self._client.unsubscribe(filters)

    def wait_subscribed(self, timeout: float) -> bool:
        """Wait for the broker's answer to a subscription; return False after the timeout. Not for hooks."""
        return self._subscribed.wait(timeout)

    def disconnect(self) -> None:
        """Queue a DISCONNECT, so that the broker discards the will. May be called from any thread."""
        self._client.disconnect()

    def abort(self) -> None:
        """Close the socket without a DISCONNECT, so that the broker publishes the will. From any thread."""
        self._abandoned = True
        with suppress(Exception), duplicate(self._client.socket()) as sock:
            sock.shutdown(socket.SHUT_RDWR)

    # Callbacks of paho

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
        filters = self._subscriptions.popleft() if self._subscriptions else []  # brokers answer in order
        denied = [name for (name, _), code in zip(filters, codes, strict=False) if code.is_failure]
        if denied:
            self.denied += denied
            _log.warning("%s does not let this client read %s", self._endpoint.url, ", ".join(denied))
        self._subscribed.set()
        guard(self._hooks.subscribed)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        guard(self._pass_on, message)

    def _pass_on(self, message: MQTTMessage) -> None:
        self._hooks.message(message.topic, bytes(message.payload), message.retain)


def guard(call: Callable[..., object], *args: Any) -> None:
    """Call a hook and log its exceptions."""
    try:
        call(*args)
    except Exception:  # noqa: BLE001, user code
        _log.exception("a callback failed")
