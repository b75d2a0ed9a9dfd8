"""Stray statuses: after a loss of the database, clears retained statuses of users that it no longer knows.

Such a user was new, and the transaction that recorded the first login is lost. If the client is still
connected, it logs in again. Else its status would stay on the broker for ever.
"""

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.recovery.retained_statuses import RetainedStatuses
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store, Transaction

_PORTION = 500
_QUIET_S = 3.0
"""After this time without a retained status, the broker has sent all of them."""


class StrayStatuses(Part):
    """Reads all retained statuses once, and has those of unknown users cleared.

    Args:
        store: knows the users, and whether a loss is being repaired.
        topics: the topics under the prefix in use.
        clock: the bridge's.
        retained: asks for a status of its own.

    """

    is_of_all = False

    def __init__(self, store: Store, topics: Topics, clock: Clock, retained: RetainedStatuses) -> None:
        self._store = store
        self._topics = topics
        self._clock = clock
        self._retained = retained
        self._filter = topics.status("+")
        self._users: dict[UserId, None] = {}
        """The users of statuses that were received, and are not compared yet."""
        self._last_s: float | None = None
        """When the last status came, or the subscription was sent; None: there is none."""
        self.is_complete = True
        """Whether all retained statuses are compared."""

    def restore(self, tx: Transaction) -> None:
        """See `Part`."""
        _, is_repairing = tx.database_loss()
        self.is_complete = not is_repairing

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Subscribe to all statuses: the broker sends the retained ones."""
        del session_present, contested
        if not self.is_complete:
            self._last_s = self._clock.monotonic()
            link.subscribe(self._filter, required=False)

    def disconnected(self) -> None:
        """See `Part`."""
        self._last_s = None

    def handle(self, link: Link, message: Incoming) -> bool:
        """Note the user of a retained status."""
        del link
        user_id = self._topics.parse_status(message.topic)
        if user_id is None or self._last_s is None:
            return False
        if message.retain:
            self._last_s = self._clock.monotonic()
            if message.payload:
                self._users[user_id] = None
        return not self._retained.is_probing

    def step(self, link: Link) -> bool:
        """Compare a portion of users; unsubscribe after the last one.

        Raises:
            StoreError: they are compared again.

        """
        if self._users:
            portion = list(self._users)[:_PORTION]
            with self._store.transaction() as tx:
                known = tx.known_users(portion)
                for user_id in portion:
                    if user_id not in known:
                        tx.put_uncleared(user_id)
            for user_id in portion:
                del self._users[user_id]
        elif self._last_s is not None and self._clock.monotonic() - self._last_s > _QUIET_S:
            link.unsubscribe(self._filter)
            self._last_s, self.is_complete = None, True
        return not self._users
