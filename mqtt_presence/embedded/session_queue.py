"""The queue of one session: messages that wait until the client can take them, within limits."""

from collections import deque
from typing import Final

from mqtt_presence.embedded.deliveries import Delivery
from mqtt_presence.embedded.shared_limit import SharedLimit

QUEUE_LIMIT = 10_000
"""Messages waiting for one client, without the retained ones for a new subscription."""
BRIDGE_QUEUE_LIMIT = 100_000
"""The same for the bridge; a message beyond it is dropped and not acknowledged."""
QUEUE_BYTES = 16 << 20
"""The same in bytes of payload, for the bridge too.

A client that leaves more QoS 1 messages unread is disconnected: a new subscription brings it up to date, and
a gap would leave it wrong for ever. For an absent client the newest messages are dropped."""


class SessionQueue:
    """Deliveries in order, counted.

    Args:
        bridge: the session is the presence bridge's.
        shared: the limit of messages in all clients' queues together.

    """

    __slots__ = ("_bridge", "_payload_bytes", "_shared", "count", "deliveries", "retained_count")

    def __init__(self, shared: SharedLimit, *, bridge: bool) -> None:
        self._shared: Final = shared
        self._bridge: Final = bridge
        self.deliveries: deque[Delivery] = deque()
        """Read only: changes go through the methods, which count."""
        self._payload_bytes = 0
        self.count = 0
        """Deliveries in the queue, without `retained_count`."""
        self.retained_count = 0
        """Retained messages for new subscriptions; `retained_search.PORTION` is their limit."""

    def __len__(self) -> int:
        return len(self.deliveries)

    @property
    def limit(self) -> int:
        """The number of messages that may wait."""
        return BRIDGE_QUEUE_LIMIT if self._bridge else min(QUEUE_LIMIT, self._shared.share)

    @property
    def is_full(self) -> bool:
        """Whether the limit of messages or of bytes is reached."""
        return self.count >= self.limit or self._payload_bytes > QUEUE_BYTES

    def append(self, delivery: Delivery) -> None:
        """Add a delivery, also beyond the limit."""
        self.deliveries.append(delivery)
        self._count(delivery, 1)

    def remove_first(self) -> None:
        """Remove the first delivery."""
        self._count(self.deliveries.popleft(), -1)

    def keep_qos_1(self) -> None:
        """Remove the deliveries at QoS 0."""
        deliveries, self.deliveries = self.deliveries, deque()
        for delivery in deliveries:
            self._count(delivery, -1)
            if delivery.qos:
                self.append(delivery)

    def clear(self) -> None:
        """Remove all deliveries."""
        while self.deliveries:
            self.remove_first()

    def _count(self, delivery: Delivery, change: int) -> None:
        if delivery.retain:
            self.retained_count += change
            return
        self.count += change
        self._payload_bytes += change * len(delivery.message.payload)
        if not self._bridge:
            self._shared.used += change
