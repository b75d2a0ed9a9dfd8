"""Sessions: the broker's memory of each client, and the delivery of messages to it (MQTT 3.1.1 §4)."""

import asyncio
import enum
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from mqtt_presence.access.rights import Rights
from mqtt_presence.embedded.deliveries import Delivery, Message
from mqtt_presence.embedded.session_queue import SessionQueue
from mqtt_presence.embedded.shared_limit import SharedLimit
from mqtt_presence.mqtt.packets import publish_packet

BRIDGE_WINDOW = 1000
"""QoS 1 messages sent to the bridge and not yet acknowledged; its rate has this bound (docs/design.md)."""
CLIENT_WINDOW = 100
"""The same for every other session."""


class EndCause(enum.Enum):
    """Why a network connection ends."""

    DISCONNECT = "disconnected"
    LOST = "connection lost"
    KEEP_ALIVE = "no packet for 1.5 times the keep alive"
    TAKEOVER = "the client connected again"
    SHUTDOWN = "the broker is stopping"
    SLOW = "the client does not read its messages"


class RetainedReplay:
    """The new subscriptions of one session for which retained messages are still to be sent, in order."""

    __slots__ = ("_filters", "search")

    def __init__(self) -> None:
        self._filters: dict[str, int] = {}
        self.search: Iterator[Message | None] | None = None
        """The search for the current subscription, once it has begun."""

    @property
    def current(self) -> tuple[str, int] | None:
        """The topic filter and QoS of the current subscription; None when all are done."""
        return next(iter(self._filters.items()), None)

    @property
    def is_pending(self) -> bool:
        """Whether a subscription is left."""
        return bool(self._filters)

    def begin(self, topic_filter: str, qos: int) -> None:
        """Add a subscription; one with the same filter is replaced."""
        self.cancel(topic_filter)
        self._filters[topic_filter] = qos

    def cancel(self, topic_filter: str) -> None:
        """Remove a subscription. Harmless when it is done."""
        if self.current is not None and self.current[0] == topic_filter:
            self.search = None
        self._filters.pop(topic_filter, None)


class AttachedConnection(Protocol):
    """The network connection of a session's client."""

    session: "Session | None"
    is_over: bool

    def has_room(self) -> bool:
        """Return whether the client may be sent more now; otherwise `Session.pump` is called later."""

    def send(self, data: bytes, /) -> None:
        """Send packets in the next turn of the event loop."""

    def end(self, cause: EndCause) -> None:
        """End the connection for all other clients, at once."""

    async def close(self) -> None:
        """Close the transport after the remaining data."""


class Session:
    """The subscriptions of one client, and the messages it has still to get, in order.

    Args:
        user: the user of the client.
        client_id: the client's name, unique among sessions.
        rights: of the client.
        clean: the session ends with the network connection (§3.1.2.4).
        bridge: the client is the presence bridge.
        queues: the limit of messages in all clients' queues together.
        request_turn: schedules the next retained messages of a session that has room for them.

    """

    __slots__ = (
        "_last_packet_id", "_request_turn", "_window", "bridge", "clean", "client_id", "connection", "expiry",
        "inflight", "queue", "received", "replay", "rights", "subscriptions", "user",
    )  # fmt: skip

    def __init__(
        self,
        user: str,
        client_id: str,
        rights: Rights,
        *,
        clean: bool,
        bridge: bool,
        queues: SharedLimit,
        request_turn: "Callable[[Session], None]",
    ) -> None:
        self.user = user
        self.client_id = client_id
        self.rights = rights
        self.clean = clean
        self.bridge = bridge
        self._request_turn: Final = request_turn
        self._window = BRIDGE_WINDOW if bridge else CLIENT_WINDOW
        self.connection: AttachedConnection | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self.subscriptions: dict[str, int] = {}
        self.replay = RetainedReplay()
        self.queue = SessionQueue(queues, bridge=bridge)
        self.inflight: dict[int, Delivery] = {}
        self.received: set[int] = set()
        """Packet ids of QoS 2 messages from the client, between PUBREC and PUBREL (§4.3.3)."""
        self._last_packet_id = 0

    def enqueue(self, delivery: Delivery) -> bool:
        """Queue a message and send what may be sent.

        Returns:
            False if the message is dropped: the queue is full, or it is at QoS 0 and the client is absent.

        """
        if self.queue.is_full or (self.connection is None and not delivery.qos):
            return False
        self.queue.append(delivery)
        self.pump()
        return True

    def pump(self) -> None:
        """Send what may be sent. A QoS 0 message keeps its place, so that it overtakes no login."""
        connection, queue = self.connection, self.queue
        deliveries = queue.deliveries
        while connection is not None and deliveries and connection.has_room():
            delivery = deliveries[0]
            packet_id = 0
            if delivery.qos:
                if len(self.inflight) >= self._window:
                    return
                packet_id = self._free_packet_id()
                self.inflight[packet_id] = delivery
            queue.remove_first()
            message = delivery.message
            connection.send(
                publish_packet(message.topic, message.payload, packet_id, retain=delivery.retain, dup=False)
            )
        if (
            connection is not None
            and self.replay.is_pending
            and not queue.retained_count
            and connection.has_room()
        ):
            self._request_turn(self)

    def acknowledged(self, packet_id: int) -> None:
        """Remove a message that the client has acknowledged, and send the next ones."""
        delivery = self.inflight.pop(packet_id, None)
        if delivery is not None and self.bridge and delivery.message.receipt is not None:
            delivery.message.receipt.committed()
        self.pump()

    def attach(self, connection: AttachedConnection) -> None:
        """Begin to use a network connection; send unacknowledged messages again first, in order (§4.4)."""
        self.connection = connection
        if self.expiry is not None:
            self.expiry.cancel()
        for packet_id, delivery in self.inflight.items():
            message = delivery.message
            connection.send(
                publish_packet(message.topic, message.payload, packet_id, retain=delivery.retain, dup=True)
            )
        self.pump()

    def detach(self) -> None:
        """Stop using the network connection; messages at QoS 0 are dropped."""
        self.connection = None
        self.queue.keep_qos_1()

    def _free_packet_id(self) -> int:
        while True:
            self._last_packet_id = self._last_packet_id % 0xFFFF + 1
            if self._last_packet_id not in self.inflight:
                return self._last_packet_id
