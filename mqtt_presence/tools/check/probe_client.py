"""One connection of the check: the only module of it that knows paho.

Nothing here has a thread or waits, but for the opening of the socket: the lab serves all peers. What a peer
must be able to do beside the usual: keep acknowledgements back, fall silent, and be gone without a word.
"""

import os
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
from mqtt_presence.mqtt.return_codes import FAILURE, connack_words
from mqtt_presence.mqtt.tls_files import TlsFiles
from mqtt_presence.mqtt.url import BrokerUrl

OPEN_S = 5.0
"""How long the broker may take for each step until it has accepted a connection."""

_SESSION_S = 120
"""How long a broker of MQTT 5 keeps a session of ours if we are killed."""


class UnreachableError(BrokerError):
    """Nobody answers there, or nobody who speaks MQTT."""


class RefusedError(BrokerError):
    """The broker has answered CONNECT with a refusal.

    Args:
        message: what to say.
        code: the reason code, in terms of MQTT 5.
        in_mqtt5: it came in MQTT 5; a broker that knows of it only by name answers in 3.1.1.

    """

    def __init__(self, message: str, code: int, *, in_mqtt5: bool) -> None:
        super().__init__(message)
        self.code = code
        self.in_mqtt5 = in_mqtt5


class ClosedError(BrokerError):
    """The broker has closed the connection."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where to connect, and as whom.

    Args:
        url: with user and password.
        tls: None: the URL is not encrypted.
        has_certificate: we have one of our own.

    """

    url: BrokerUrl
    tls: TlsFiles | None = None
    has_certificate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How to connect.

    Args:
        mqtt5: or 3.1.1.
        clean: no session before, none after.
        keep_alive_s: seconds.
        will: topic and payload, at QoS 1, not retained.
        first: topic and payload to publish the moment the broker accepts us.
        acknowledge: acknowledge what comes at QoS 1; False: never.

    """

    mqtt5: bool = False
    clean: bool = True
    keep_alive_s: int = 60
    will: tuple[str, bytes] | None = None
    first: tuple[str, bytes] | None = None
    acknowledge: bool = True


class Received(NamedTuple):
    """A message that has come."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    at: float
    """Monotonic seconds."""


@dataclass(slots=True)
class Sent:
    """A message on its way to the broker."""

    reason: int | None = None
    """What the broker answered, 0 in MQTT 3.1.1; None: nothing yet."""

    @property
    def is_acknowledged(self) -> bool:
        """The broker has taken it."""
        return self.reason is not None and self.reason < FAILURE

    @property
    def is_denied(self) -> bool:
        """The broker has said that it does not take it; only MQTT 5 has words for it."""
        return self.reason is not None and self.reason >= FAILURE


@dataclass(slots=True)
class Subscribing:
    """A subscription on its way."""

    codes: list[int] = field(default_factory=list)
    is_answered: bool = False

    @property
    def is_granted(self) -> bool:
        """The broker has granted it."""
        return self.is_answered and all(code < FAILURE for code in self.codes)


class ProbeClient:
    """A connection that has yet to be opened.

    Args:
        access: where to, and as whom.
        client_id: the client id.
        manner: how.
        wanted: which messages to keep; a live broker brings others too.

    """

    def __init__(
        self,
        access: Credentials,
        client_id: str,
        manner: ConnectOptions,
        wanted: Callable[[str, bytes], bool],
    ) -> None:
        self.access = access
        self.client_id = client_id
        self.manner = manner
        self.received: list[Received] = []
        self.by_payload: dict[bytes, list[Received]] = {}
        self.count = 0
        """How many messages have come, others than those wanted too."""
        self.answers = 0
        """How many publications the broker has answered."""
        self.is_accepted = False
        self.is_over = False
        """The connection has ended, or was never made."""
        self.is_silent = False
        """It neither reads nor writes any more."""
        self.session_present = False
        self.reason: int | None = None
        """Why the broker refused the connection or ended it, as far as it said."""
        self.answered_in_mqtt5 = False
        """The broker knows of MQTT 5, even if it refuses it."""
        self.facts: dict[str, Any] = {}
        """What the broker said of itself in the CONNACK of MQTT 5."""
        self._wanted = wanted
        self._sent: dict[int, Sent] = {}
        self._subscribing: dict[int, Subscribing] = {}
        self._client = self._make()

    def _make(self) -> mqtt.Client:
        url, manner = self.access.url, self.manner
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=None if manner.mqtt5 else manner.clean,
            protocol=mqtt.MQTTv5 if manner.mqtt5 else mqtt.MQTTv311,
            transport=transport(url),
            reconnect_on_failure=False,
            manual_ack=not manner.acknowledge,
        )
        tls = None if self.access.tls is None else self.access.tls.context()
        prepare(client, url, timeout_s=OPEN_S, tls=tls)
        client.max_inflight_messages_set(0)  # as many on the way as there are
        if manner.will is not None:
            client.will_set(*manner.will, qos=1)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        return client

    def open(self) -> None:
        """Open the socket and send CONNECT.

        Raises:
            UnreachableError: nobody answers.

        """
        url = self.access.url
        try:
            self._client.connect(url.host, url.port, self.manner.keep_alive_s, **self._session_options())
        except Exception as error:  # also a strange answer to the WebSocket handshake, a host IDNA refuses
            self.is_over = True
            raise UnreachableError(f"{url} cannot be reached: {error}") from error

    def _session_options(self) -> dict[str, Any]:
        if not self.manner.mqtt5:
            return {}
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0 if self.manner.clean else _SESSION_S
        properties.ReceiveMaximum = RECEIVE_MAXIMUM  # as the bridge asks for
        return {"clean_start": self.manner.clean, "properties": properties}

    @property
    def answer(self) -> str:
        """How the broker refused the connection, in words."""
        if self.reason is None:
            return "it closes the connection without an answer"
        return connack_words(self.reason)

    # Served by the lab.

    def fileno(self) -> int:
        """Return the socket's file descriptor; -1: there is none."""
        sock: Any = self._client.socket()
        return -1 if sock is None else int(sock.fileno())

    @property
    def has_buffered(self) -> bool:
        """TLS may have decrypted more than was read: no poll tells of that."""
        pending = getattr(self._client.socket(), "pending", None)
        return pending is not None and pending() > 0

    @property
    def wants_to_write(self) -> bool:
        """Something waits to be sent."""
        return self._client.want_write()

    def read(self) -> None:
        """Read what there is."""
        self._client.loop_read()

    def write(self) -> None:
        """Write what waits."""
        self._client.loop_write()

    def keep_alive(self) -> None:
        """Send a PINGREQ if it is time."""
        self._client.loop_misc()

    # What it can say.

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expires_after_s: int | None = None
    ) -> Sent:
        """Publish at QoS 1.

        Args:
            topic: the topic.
            payload: the payload.
            retain: with the retain flag.
            expires_after_s: how long the broker is to keep it, where it speaks MQTT 5; None: for ever.

        """
        properties = None
        if self.manner.mqtt5 and expires_after_s is not None:
            properties = Properties(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = expires_after_s
        info = self._client.publish(topic, payload, 1, retain, properties)
        sent = self._sent[info.mid] = Sent()
        return sent

    def subscribe(self, topic_filter: str, qos: int = 1) -> Subscribing:
        """Subscribe to a topic filter."""
        _, mid = self._client.subscribe(topic_filter, qos)
        if mid is None:
            return Subscribing()
        asked = self._subscribing[mid] = Subscribing()
        return asked

    def disconnect(self) -> None:
        """Leave on purpose: no will."""
        if not self.is_over:
            with suppress(Exception):  # it may be gone already, in the middle of anything
                self._client.disconnect()
                self._client.loop_write()
        self.cut()

    def cut(self) -> None:
        """Be gone without a word: the will follows."""
        self.is_over = True
        sock: Any = self._client.socket()
        if sock is None:
            return
        with suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)  # below TLS and WebSocket, which would say good-bye
        with suppress(Exception):
            self._client.loop_read()  # it finds the end, and gives the socket back
            sock.close()

    def tls_facts(self) -> tuple[str, str, dict[str, Any]] | None:
        """Return TLS version, cipher and the broker's certificate; None: it is not encrypted."""
        sock: Any = self._client.socket()
        raw = getattr(sock, "_socket", sock)  # paho's WebSocket wrapper keeps it there
        if not isinstance(raw, ssl.SSLSocket):
            return None
        cipher = raw.cipher()
        return raw.version() or "", cipher[0] if cipher else "", dict(raw.getpeercert() or {})

    # Called by paho.

    def _on_connect(self, _client: Any, _data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self.reason = int(reason.value)
        self.answered_in_mqtt5 = properties is not None
        if reason.is_failure:
            return
        self.is_accepted = True
        self.session_present = bool(flags.session_present)
        if properties is not None:
            self.facts = properties.json()
        if self.manner.first is not None:
            self.publish(*self.manner.first)

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.is_over = True
        if self.is_accepted:
            self.reason = int(reason.value)

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.count += 1
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        if self._wanted(topic, bytes(message.payload)):
            payload = bytes(message.payload)
            came = Received(topic, payload, message.qos, message.retain, time.monotonic())
            self.received.append(came)
            self.by_payload.setdefault(payload, []).append(came)

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self.answers += 1
        self._sent.setdefault(mid, Sent()).reason = int(reason.value)

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, codes: Any, _properties: Any) -> None:
        answered = self._subscribing.setdefault(mid, Subscribing())
        answered.codes = [int(code.value) for code in codes]
        answered.is_answered = True
