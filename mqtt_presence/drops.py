"""Noticing that the broker drops messages it has already acknowledged, where it says so.

mosquitto counts them in `$SYS`: its queue for a client that is absent or slow holds 1,000 messages unless it
is told otherwise. What was lost cannot be known, so all clients are asked to log in again.
"""

import logging
import time

from mqtt_presence.link import Incoming, Link
from mqtt_presence.store import Transaction

log = logging.getLogger(__name__)

TOPIC = "$SYS/broker/publish/messages/dropped"
_ASK_EVERY_S = 60.0
_NAME = "dropped"


class DropWatch:
    """Follows the broker's count of dropped messages, also over the bridge's own absence."""

    def __init__(self) -> None:
        self._count: int | None = None
        self._kept: int | None = None
        self._is_asking = False
        self._asked_at = -_ASK_EVERY_S

    def restore(self, tx: Transaction) -> None:
        """Read the count as it was when the bridge was last running."""
        kept = tx.recall(_NAME)
        self._count = self._kept = None if kept is None else int(kept)

    @property
    def is_news(self) -> bool:
        """There is something to `remember`."""
        return self._count != self._kept

    def remember(self, tx: Transaction) -> None:
        """Keep the count."""
        tx.remember(_NAME, str(self._count))
        self._kept = self._count

    def connected(self, link: Link) -> None:
        """Follow the count on a new connection, if we may; those that have it speak MQTT 5."""
        if link.is_mqtt5:
            link.subscribe(TOPIC, required=False)

    def heard(self, message: Incoming) -> bool:
        """Take a message if it is the count; tell whether it was."""
        if message.topic != TOPIC:
            return False
        if message.payload.isdigit():
            before, self._count = self._count, int(message.payload)
            # It begins at 0 again with the broker; and the first one we hear of tells us nothing.
            if before is not None and self._count > before:
                log.warning(
                    "the broker has dropped %d messages, perhaps of ours: raise max_queued_messages and "
                    "max_inflight_messages (docs/mosquitto.md); asking all clients to log in again",
                    self._count - before,
                )
                self._is_asking = True
        return True

    def must_announce(self) -> bool:
        """Tell whether it is time to ask the clients: soon after a loss, but not after each of many."""
        if not self._is_asking or time.monotonic() - self._asked_at < _ASK_EVERY_S:
            return False
        self._is_asking = False
        self._asked_at = time.monotonic()
        return True
