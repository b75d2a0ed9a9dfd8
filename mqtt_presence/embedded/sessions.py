"""What the broker remembers of a client, and how its messages wait for it (MQTT 3.1.1 §4)."""

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from mqtt_presence.access.rights import Grant
from mqtt_presence.embedded.deliveries import Delivery, Message
from mqtt_presence.mqtt.packets import publish_packet

WINDOW = 1000
"""QoS 1 messages sent to the bridge and not yet acknowledged; it bounds the bridge's rate (design)."""
CLIENT_WINDOW = 100
"""The same for every other session."""
QUEUE_LIMIT = 10_000
"""Messages waiting for one client, retained ones to a new subscription not counted."""
BRIDGE_QUEUE_LIMIT = 100_000
"""The same for the bridge; what is dropped is not acknowledged."""
QUEUE_BYTES = 16 << 20
"""The same in bytes of payload, for the bridge too. Beyond it a client that does not take its QoS 1 messages
is disconnected (a new subscription brings it up to date; a gap would leave it wrong for ever); for one that
is away the newest are dropped."""
QUEUES_LIMIT = 5_000_000
"""Messages waiting for all clients together, 8 bytes each: all queues share one copy of a message."""


class Cause(enum.Enum):
    """Why a connection ends."""

    DISCONNECT = "disconnected"
    LOST = "connection lost"
    KEEP_ALIVE = "nothing heard for 1.5 times its keep alive"
    TAKEOVER = "the client connected again"
    SHUTDOWN = "the broker stops"
    SLOW = "it does not take its messages"


class Pool:
    """A bounded number of things that sessions share, each with a dynamic limit.

    One session may have a sixteenth of the free ones. So `n` sessions that take all they can get leave a part
    of ``1 / (n + 16)`` for the next one (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998).

    Args:
        limit: how many there are.

    """

    __slots__ = ("_limit", "used")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    @property
    def share(self) -> int:
        """The number that one session may have."""
        return (self._limit - self.used) // 16


class CatchUp:
    """The subscriptions of one session whose retained messages are still to be delivered, in order."""

    __slots__ = ("_waiting", "queued", "search")

    def __init__(self) -> None:
        self._waiting: dict[str, int] = {}
        self.search: Iterator[Message | None] | None = None
        """The search for the current one, once it has begun."""
        self.queued = 0
        """Retained messages in the queue of the session."""

    @property
    def current(self) -> tuple[str, int] | None:
        """The filter and QoS of the subscription to go on with, None when all are done."""
        return next(iter(self._waiting.items()), None)

    @property
    def is_due(self) -> bool:
        """Whether the next retained messages may be queued: the client has been sent the last ones."""
        return bool(self._waiting) and not self.queued

    def begin(self, topic_filter: str, qos: int) -> None:
        """Add a subscription; one with the same filter is replaced."""
        self.cancel(topic_filter)
        self._waiting[topic_filter] = qos

    def cancel(self, topic_filter: str) -> None:
        """Remove a subscription. Harmless when it is done."""
        if self.current is not None and self.current[0] == topic_filter:
            self.search = None
        self._waiting.pop(topic_filter, None)


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
        waiting: what all sessions' queues share.
        give_turn: asks for the next retained messages of a session that takes them.

    """

    __slots__ = (
        "_give_turn", "_next_id", "_waiting", "_window", "bridge", "catch_up", "clean", "client_id",
        "connection", "expiry", "grant", "inflight", "queue", "queued", "queued_bytes", "received",
        "subscriptions", "user",
    )  # fmt: skip

    def __init__(
        self,
        user: str,
        client_id: str,
        granted: Grant,
        *,
        clean: bool,
        bridge: bool,
        waiting: Pool,
        give_turn: "Callable[[Session], None]",
    ) -> None:
        self.user = user
        self.client_id = client_id
        self.grant = granted
        self.clean = clean
        self.bridge = bridge
        self._waiting: Final = waiting
        self._give_turn: Final = give_turn
        self._window = WINDOW if bridge else CLIENT_WINDOW
        self.connection: Client | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self.subscriptions: dict[str, int] = {}
        self.catch_up = CatchUp()
        self.queue: deque[Delivery] = deque()
        self.queued = 0
        self.queued_bytes = 0
        self.inflight: dict[int, Delivery] = {}
        self.received: set[int] = set()  # QoS 2 ids between PUBREC and PUBREL (§4.3.3)
        self._next_id = 0

    @property
    def limit(self) -> int:
        """The number of messages that may wait."""
        return BRIDGE_QUEUE_LIMIT if self.bridge else min(QUEUE_LIMIT, self._waiting.share)

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
        if delivery.retain:  # bounded by the portion: a list of all users is one subscription
            self.catch_up.queued += sign
            return
        self.queued += sign
        self.queued_bytes += sign * len(delivery.message.payload)
        if not self.bridge:
            self._waiting.used += sign

    def pump(self) -> None:
        """Send what may be sent. QoS 0 keeps its place in the queue: nothing overtakes a login."""
        connection, queue = self.connection, self.queue
        while connection is not None and queue and connection.has_room():
            delivery = queue[0]
            packet_id = 0
            if delivery.qos:
                if len(self.inflight) >= self._window:
                    return
                packet_id = self._free_id()
                self.inflight[packet_id] = delivery
            queue.popleft()
            self._count(delivery, -1)
            message = delivery.message
            connection.send(
                publish_packet(message.topic, message.payload, packet_id, retain=delivery.retain, dup=False)
            )
        if connection is not None and self.catch_up.is_due and connection.has_room():
            self._give_turn(self)

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
        for delivery in waiting:
            self._count(delivery, -1)
            if delivery.qos:
                self.append(delivery)

    def drop_queue(self) -> None:
        """Drop all that waits: the session is forgotten."""
        while self.queue:
            self._count(self.queue.popleft(), -1)

    def _free_id(self) -> int:
        while True:
            self._next_id = self._next_id % 0xFFFF + 1
            if self._next_id not in self.inflight:
                return self._next_id
