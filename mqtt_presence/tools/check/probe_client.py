"""A connection of the check to the broker: the only module of `check` that imports paho.

The module has no thread, and waits only while a socket opens: a `PollLoop` serves all clients. Beside the
usual, a probe client can withhold acknowledgements, fall silent, and lose its network connection without
DISCONNECT.
"""

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mqtt_presence.bridge.link.config import RECEIVE_MAXIMUM
from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.paho_client import prepare, transport
from mqtt_presence.mqtt.paho_sockets import duplicate, has_buffered, without_wrapper
from mqtt_presence.mqtt.port_advice import port_advice
from mqtt_presence.mqtt.return_codes import FAILURE, connack_words
from mqtt_presence.mqtt.tls_files import TlsFiles
from mqtt_presence.mqtt.url import BrokerUrl

OPEN_S = 5.0
"""Time limit for each step until the broker has accepted a connection, seconds."""

_SESSION_S = 120
"""How long a broker of MQTT 5 keeps a session of the check after a kill, seconds."""


class UnreachableError(BrokerError):
    """The server does not answer, or does not speak MQTT."""


class RefusedError(BrokerError):
    """The broker has answered CONNECT with a refusal.

    Args:
        message: the text for the user.
        code: the reason code, in terms of MQTT 5.
        in_mqtt5: the answer came in MQTT 5; a broker that knows MQTT 5 only by name answers in 3.1.1.

    """

    def __init__(self, message: str, code: int, *, in_mqtt5: bool) -> None:
        super().__init__(message)
        self.code = code
        self.in_mqtt5 = in_mqtt5


class ClosedError(BrokerError):
    """The broker has closed the connection."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A broker's URL with a user, a password and TLS files.

    Args:
        url: with user and password.
        tls: None if the URL is not encrypted.
        has_certificate: whether the files include a client certificate.

    """

    url: BrokerUrl
    tls: TlsFiles | None = None
    has_certificate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """The options of a connection.

    Args:
        mqtt5: MQTT 5, or 3.1.1.
        clean: the session begins and ends with the connection.
        keep_alive_s: seconds.
        will: topic and payload, at QoS 1, not retained.
        first: topic and payload of a message that follows the CONNACK at once.
        acknowledge: acknowledge messages at QoS 1; False leaves that to `ProbeClient.acknowledge`.

    """

    mqtt5: bool = False
    clean: bool = True
    keep_alive_s: int = 60
    will: tuple[str, bytes] | None = None
    first: tuple[str, bytes] | None = None
    acknowledge: bool = True


class Received(NamedTuple):
    """A message from the broker."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    at: float
    """Monotonic seconds."""
    packet_id: int
    """0 at QoS 0."""
    is_dup: bool
    """Whether the broker marks it as sent before."""


@dataclass(slots=True)
class Sent:
    """A publication on its way to the broker."""

    reason: int | None = None
    """The broker's answer, 0 in MQTT 3.1.1; None before the answer."""

    @property
    def is_acknowledged(self) -> bool:
        """Whether the broker has accepted the publication."""
        return self.reason is not None and self.reason < FAILURE

    @property
    def is_denied(self) -> bool:
        """Whether the broker has refused the publication, as only MQTT 5 can express it."""
        return self.reason is not None and self.reason >= FAILURE


@dataclass(slots=True)
class Subscribing:
    """A subscription on its way to the broker."""

    codes: list[int] = field(default_factory=list)
    is_answered: bool = False

    @property
    def is_granted(self) -> bool:
        """Whether the broker has granted the subscription."""
        return self.is_answered and all(code < FAILURE for code in self.codes)


@dataclass(frozen=True, slots=True)
class Connack:
    """The broker's answer to CONNECT.

    Args:
        session_present: as the broker reports it.
        in_mqtt5: whether the answer came in MQTT 5, even if it refused MQTT 5.
        properties: of MQTT 5.

    """

    session_present: bool = False
    in_mqtt5: bool = False
    properties: dict[str, Any] = field(default_factory=dict)


class Inbox:
    """The messages that a client has received.

    Args:
        is_wanted: returns whether to store a message by topic and payload; a live broker delivers others too.

    """

    def __init__(self, is_wanted: Callable[[str, bytes], bool]) -> None:
        self._is_wanted = is_wanted
        self._by_payload: dict[bytes, list[Received]] = {}
        self.messages: list[Received] = []
        self.count = 0
        """The number of messages from the broker, wanted or not."""

    def add(self, message: mqtt.MQTTMessage) -> None:
        """Count a message, and store it if it is wanted."""
        self.count += 1
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        payload = bytes(message.payload)
        if self._is_wanted(topic, payload):
            received = Received(
                topic,
                payload,
                message.qos,
                message.retain,
                time.monotonic(),
                message.mid,
                message.dup,
            )
            self.messages.append(received)
            self._by_payload.setdefault(payload, []).append(received)

    def with_payload(self, payload: bytes) -> list[Received]:
        """Return the stored messages with this payload."""
        return self._by_payload.get(payload, [])

    def on_topic(self, topic: str) -> list[Received]:
        """Return the stored messages on this topic."""
        return [message for message in self.messages if message.topic == topic]


class ProbeClient:
    """A connection that `open` begins.

    Args:
        credentials: the broker and the user.
        client_id: the client id.
        options: of the connection.
        is_wanted: selects the messages to store, see `Inbox`.

    """

    def __init__(
        self,
        credentials: Credentials,
        client_id: str,
        options: ConnectOptions,
        is_wanted: Callable[[str, bytes], bool],
    ) -> None:
        self.credentials = credentials
        self.client_id = client_id
        self.options = options
        self.inbox = Inbox(is_wanted)
        self.answers = 0
        """The number of publications that the broker has answered."""
        self.is_accepted = False
        self.is_over = False
        """Whether the connection has ended, or could not be made."""
        self.is_silent = False
        """Whether the poll loop leaves out this client, so that its keep alive runs out."""
        self.connack = Connack()
        self.reason: int | None = None
        """The reason code with which the broker refused or ended the connection; None if there was none."""
        self._sent: dict[int, Sent] = {}
        self._subscribing: dict[int, Subscribing] = {}
        self._client = self._make()

    def _make(self) -> mqtt.Client:
        url, options = self.credentials.url, self.options
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=None if options.mqtt5 else options.clean,
            protocol=mqtt.MQTTv5 if options.mqtt5 else mqtt.MQTTv311,
            transport=transport(url),
            reconnect_on_failure=False,
            manual_ack=not options.acknowledge,
        )
        tls = None if self.credentials.tls is None else self.credentials.tls.context()
        prepare(client, url, timeout_s=OPEN_S, tls=tls)
        client.max_inflight_messages_set(0)  # no limit
        if options.will is not None:
            client.will_set(*options.will, qos=1)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        return client

    def open(self) -> None:
        """Open the socket and send CONNECT.

        Raises:
            UnreachableError: the server does not answer.

        """
        url = self.credentials.url
        try:
            self._client.connect(url.host, url.port, self.options.keep_alive_s, **self._session_options())
        except Exception as error:  # also a wrong WebSocket handshake, or a host that IDNA refuses
            self.is_over = True
            raise UnreachableError(f"{url} cannot be reached: {error}{port_advice(url, error)}") from error

    def _session_options(self) -> dict[str, Any]:
        if not self.options.mqtt5:
            return {}
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0 if self.options.clean else _SESSION_S
        properties.ReceiveMaximum = RECEIVE_MAXIMUM  # as the bridge asks for
        return {"clean_start": self.options.clean, "properties": properties}

    @property
    def answer(self) -> str:
        """The broker's refusal in words."""
        if self.reason is None:
            return "it closes the connection without an answer"
        return connack_words(self.reason)

    # Called by the poll loop.

    def fileno(self) -> int:
        """Return the socket's file descriptor, or -1 without a socket."""
        sock: Any = self._client.socket()
        return -1 if sock is None else int(sock.fileno())

    @property
    def has_buffered(self) -> bool:
        """Whether TLS has decrypted bytes that were not read."""
        return has_buffered(self._client.socket())

    @property
    def wants_to_write(self) -> bool:
        """Whether packets wait to be sent."""
        return self._client.want_write()

    def read(self) -> None:
        """Read the packets that have arrived."""
        self._client.loop_read()

    def write(self) -> None:
        """Write the waiting packets."""
        self._client.loop_write()

    def keep_alive(self) -> None:
        """Send a PINGREQ if the keep alive requires it."""
        self._client.loop_misc()

    # Called by the probes.

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expires_after_s: int | None = None
    ) -> Sent:
        """Publish at QoS 1.

        Args:
            topic: the topic.
            payload: the payload.
            retain: with the retain flag.
            expires_after_s: the message expiry interval in MQTT 5; None for no expiry.

        """
        properties = None
        if self.options.mqtt5 and expires_after_s is not None:
            properties = Properties(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = expires_after_s
        info = self._client.publish(topic, payload, 1, retain, properties)
        sent = self._sent[info.mid] = Sent()
        return sent

    def acknowledge(self, message: Received) -> None:
        """Acknowledge one message, where the options withhold acknowledgements."""
        self._client.ack(message.packet_id, message.qos)

    def subscribe(self, topic_filter: str, qos: int = 1) -> Subscribing:
        """Subscribe to a topic filter."""
        _, mid = self._client.subscribe(topic_filter, qos)
        if mid is None:
            return Subscribing()
        asked = self._subscribing[mid] = Subscribing()
        return asked

    def disconnect(self) -> None:
        """Send DISCONNECT and close: the broker discards the will."""
        if not self.is_over:
            with suppress(Exception):  # the broker may have closed the connection at any point
                self._client.disconnect()
                self._client.loop_write()
        self.cut()

    def cut(self) -> None:
        """Close the connection without DISCONNECT: the broker publishes the will."""
        self.is_over = True
        sock: Any = self._client.socket()
        if sock is None:
            return
        with suppress(OSError), duplicate(sock) as same:
            same.shutdown(socket.SHUT_RDWR)  # TLS and WebSocket would send a closing message
        with suppress(Exception):
            self._client.loop_read()  # paho notices the end and releases the socket
            sock.close()

    def tls_facts(self) -> tuple[str, str, dict[str, Any]] | None:
        """Return TLS version, cipher and the broker's certificate; None without TLS."""
        sock: Any = self._client.socket()
        raw = without_wrapper(sock)
        if not isinstance(raw, ssl.SSLSocket):
            return None
        cipher = raw.cipher()
        return raw.version() or "", cipher[0] if cipher else "", dict(raw.getpeercert() or {})

    # Called by paho.

    def _on_connect(self, _client: Any, _data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self.reason = int(reason.value)
        self.connack = Connack(
            session_present=bool(flags.session_present),
            in_mqtt5=properties is not None,
            properties={} if properties is None else properties.json(),
        )
        if reason.is_failure:
            return
        self.is_accepted = True
        if self.options.first is not None:
            self.publish(*self.options.first)

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.is_over = True
        if self.is_accepted:
            self.reason = int(reason.value)

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.inbox.add(message)

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self.answers += 1
        self._sent.setdefault(mid, Sent()).reason = int(reason.value)

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, codes: Any, _properties: Any) -> None:
        answered = self._subscribing.setdefault(mid, Subscribing())
        answered.codes = [int(code.value) for code in codes]
        answered.is_answered = True
