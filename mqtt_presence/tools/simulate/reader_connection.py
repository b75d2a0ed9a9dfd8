"""A connection to the broker that reconnects, for the status reader of a simulation."""

import time
from collections.abc import Callable

from mqtt_presence.errors import BrokerError
from mqtt_presence.mqtt.framing import Kind, Packet
from mqtt_presence.mqtt.packets import (
    MQTT_311,
    PINGREQ,
    Connect,
    connect_packet,
    read_connack,
    subscribe_packet,
    unsubscribe_packet,
)
from mqtt_presence.mqtt.port_advice import port_advice
from mqtt_presence.mqtt.return_codes import connack_words_311
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.watchers import fresh_watcher_id
from mqtt_presence.tools.simulate.simulated_devices import KEEP_ALIVE_S
from mqtt_presence.tools.simulate.socket_loop import Loop, SocketConnection, Target

_RETRY_S = 1.0


class ReaderConnection:
    """Keeps one connection open, and opens a new one after its end.

    Args:
        loop: serves the connection.
        target: the broker.
        url: with the user to connect as.
        on_connected: called when the broker has accepted the connection.
        on_packet: called with each packet but CONNACK.
        on_lost: called when the connection has ended.
        monotonic: returns the time in seconds.

    """

    def __init__(
        self,
        loop: Loop,
        target: Target,
        url: BrokerUrl,
        *,
        on_connected: Callable[[], None],
        on_packet: Callable[[Packet], None],
        on_lost: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._target = target
        self._url = url
        self._on_connected = on_connected
        self._on_other_packet = on_packet
        self._on_end = on_lost
        self._monotonic = monotonic
        self._packet_id = 0
        self._pinged_at = self._received_at = monotonic()
        self._retry_at: float | None = None
        self._was_up = False
        self.is_up = False
        self.away_since: float | None = None
        """When the connection ended, by `monotonic`; None if it is open, or never was."""
        self.failure: BrokerError | None = None
        """A refusal by the broker, which ends the simulation."""

    def connect(self) -> None:
        """Open a connection."""
        self._retry_at = None
        self._pinged_at = self._received_at = self._monotonic()
        password = self._url.password
        request = Connect(
            MQTT_311,
            keep_alive_s=KEEP_ALIVE_S,
            client_id=fresh_watcher_id(),
            user=self._url.username,
            password=None if password is None else password.encode(),
        )
        try:
            self._connection = SocketConnection(self._loop, self._target, self._on_packet, self._on_lost)
        except OSError as error:
            self._on_lost(str(error))
        else:
            self._connection.send(connect_packet(request))

    def maintain(self) -> None:
        """Keep the connection alive, or open a new one; call this repeatedly.

        Raises:
            BrokerError: the broker refuses the user.

        """
        if self.failure is not None:
            raise self.failure
        if self._retry_at is not None:
            if self._monotonic() >= self._retry_at:
                self.connect()
            return
        if self._monotonic() - self._pinged_at > KEEP_ALIVE_S / 4:
            if self._received_at < self._pinged_at:
                self._connection.close()
                self._on_lost("it does not answer")
                return
            self._pinged_at = self._monotonic()
            self._connection.send(PINGREQ)

    def subscribe(self, topic_filters: list[str]) -> int:
        """Subscribe at QoS 0; return the packet id."""
        packet_id = self._new_id()
        self._connection.send(subscribe_packet([(name, 0) for name in topic_filters], packet_id))
        return packet_id

    def unsubscribe(self, topic_filters: list[str]) -> None:
        """End subscriptions."""
        self._connection.send(unsubscribe_packet(topic_filters, self._new_id()))

    def _new_id(self) -> int:
        self._packet_id = self._packet_id % 65_535 + 1
        return self._packet_id

    def _on_packet(self, packet: Packet) -> None:
        self._received_at = self._monotonic()
        if packet.kind != Kind.CONNACK:
            self._on_other_packet(packet)
            return
        code = read_connack(packet.body)[1]
        if code:
            advice = "" if self._url.username else "; --broker must name a user, as in mqtt://me@127.0.0.1"
            self.failure = BrokerError(f"{self._url} refuses us: {connack_words_311(code)}{advice}")
            return
        self.is_up = self._was_up = True
        self.away_since = None
        self._on_connected()

    def _on_lost(self, why: str) -> None:
        if self.is_up:
            self.away_since = self._monotonic()
        self.is_up = False
        self._retry_at = self._monotonic() + _RETRY_S
        self._on_end()
        if not self._was_up and self.failure is None:  # keep an earlier refusal with its reason
            self.failure = BrokerError(f"{self._url} cannot be reached: {why}{port_advice(self._url)}")
