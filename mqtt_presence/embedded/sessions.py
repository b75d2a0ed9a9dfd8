"""What the broker remembers of a client, and how its messages wait for it (MQTT 3.1.1 §4)."""

import asyncio
import enum
from collections import deque
from typing import Protocol

from mqtt_presence.access import Grant
from mqtt_presence.embedded.messages import Delivery
from mqtt_presence.mqtt.packets import publish_packet

WINDOW = 1000
"""QoS 1 messages sent to one session and not yet acknowledged; it bounds the bridge's rate (design)."""
QUEUE_LIMIT = 10_000
"""Messages waiting for one client, retained ones to a new subscription not counted."""
BRIDGE_QUEUE_LIMIT = 100_000
"""The same for the bridge; what is dropped is not acknowledged."""
QUEUE_BYTES = 16 << 20
"""The same in bytes of payload, for the bridge too. Beyond it a client that does not take its QoS 1 messages
is disconnected (a new subscription brings it up to date; a gap would leave it wrong for ever); for one that
is away the newest are dropped."""


class Cause(enum.Enum):
    """Why a connection ends."""

    DISCONNECT = "disconnected"
    LOST = "connection lost"
    KEEP_ALIVE = "nothing heard for 1.5 times its keep alive"
    TAKEOVER = "the client connected again"
    SHUTDOWN = "the broker stops"
    SLOW = "it does not take its messages"


class Client(Protocol):
    """The connection of a client that is there, as sessions see it."""

    session: "Session | None"

    def has_room(self) -> bool:
        """Say whether more can be sent now; else it asks for more (`Session.pump`) when it can."""

    def send(self, data: bytes) -> None:
        """Send soon."""

    def end(self, cause: Cause) -> None:
        """End it for everyone else, at once."""

    async def hang_up(self) -> None:
        """Close it, after what is still to be sent if the peer takes it."""


class Session:
    """What the broker remembers of a client: its subscriptions and what it has still to get, in order.

    Args:
        user: whose it is.
        client_id: the client's name, for which there is one session only.
        granted: what the client may do.
        clean: it ends with the connection (§3.1.2.4).
        bridge: it is the presence bridge's.

    """

    __slots__ = (
        "_next_id", "bridge", "clean", "client_id", "connection", "expiry", "grant", "inflight", "limit",
        "queue", "queued", "queued_bytes", "received", "subscriptions", "user",
    )  # fmt: skip

    def __init__(self, user: str, client_id: str, granted: Grant, *, clean: bool, bridge: bool) -> None:
        self.user = user
        self.client_id = client_id
        self.grant = granted
        self.clean = clean
        self.bridge = bridge
        self.limit = BRIDGE_QUEUE_LIMIT if bridge else QUEUE_LIMIT
        self.connection: Client | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self.subscriptions: dict[str, int] = {}
        self.queue: deque[Delivery] = deque()
        self.queued = 0
        self.queued_bytes = 0
        self.inflight: dict[int, Delivery] = {}
        self.received: set[int] = set()  # QoS 2 ids between PUBREC and PUBREL (§4.3.3)
        self._next_id = 0

    def enqueue(self, delivery: Delivery) -> bool:
        """Take a message for delivery; False when it is dropped: QoS 0 to an absent client, or too many."""
        full = self.queued >= self.limit or self.queued_bytes > QUEUE_BYTES
        if full or (self.connection is None and not delivery.qos):
            return False
        self.append(delivery)
        self.pump()
        return True

    def append(self, delivery: Delivery) -> None:
        """Take a message whatever waits already; it is sent at the next `pump`."""
        self.queue.append(delivery)
        self._count(delivery, 1)

    def _count(self, delivery: Delivery, sign: int) -> None:
        if not delivery.retain:  # a list of all users is one subscription, however many they are
            self.queued += sign
            self.queued_bytes += sign * len(delivery.message.payload)

    def pump(self) -> None:
        """Send what may be sent. QoS 0 keeps its place in the queue: nothing overtakes a login."""
        connection, queue = self.connection, self.queue
        while connection is not None and queue and connection.has_room():
            delivery = queue[0]
            packet_id = 0
            if delivery.qos:
                if len(self.inflight) >= WINDOW:
                    return
                packet_id = self._free_id()
                self.inflight[packet_id] = delivery
            queue.popleft()
            self._count(delivery, -1)
            message = delivery.message
            connection.send(
                publish_packet(message.topic, message.payload, packet_id, retain=delivery.retain, dup=False)
            )

    def acknowledged(self, packet_id: int) -> None:
        """Forget a message that the client has."""
        delivery = self.inflight.pop(packet_id, None)
        if delivery is not None and self.bridge and delivery.message.receipt is not None:
            delivery.message.receipt.committed()
        self.pump()

    def attach(self, connection: Client) -> None:
        """Send again what was not acknowledged, in order, then go on (§4.4)."""
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
        """The connection is gone; so is what waits at QoS 0."""
        self.connection = None
        waiting, self.queue = self.queue, deque()
        self.queued = self.queued_bytes = 0
        for delivery in waiting:
            if delivery.qos:
                self.append(delivery)

    def _free_id(self) -> int:
        while True:
            self._next_id = self._next_id % 0xFFFF + 1
            if self._next_id not in self.inflight:
                return self._next_id
