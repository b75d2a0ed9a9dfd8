"""Forgotten users: the broker, too, must forget their retained status.

`mqtt-presence forget` deletes a user's rows and leaves a tombstone. For each the bridge publishes an empty
retained status, and buries it once the broker has acknowledged that. A broker that is restarted may have the
status again, so what is buried is cleared again on each connect, until no broker can bring it back.
"""

from collections.abc import Callable, Collection, Iterable

from msgspec import Struct

from mqtt_presence.bridge.link.link import Link
from mqtt_presence.mqtt.messages import Outgoing
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store, Transaction

# By then any broker has on its disk what it acknowledged: mosquitto unconfigured takes half an hour.
_BURIED_MS = 3_600_000


class ClearTicket(Struct, frozen=True):
    """Ticket of an empty retained status: the user it was for is forgotten by the broker too."""

    user_id: UserId
    number: int
    """Which one of this bridge's: the user may have been back in between."""


class ForgottenUsers:
    """Knows which empty statuses are on their way.

    Args:
        topics: where the statuses are.

    """

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._number = 0
        self._burying: dict[UserId, int] = {}
        """Whose empty status is on its way to the broker, or acknowledged and not noted yet."""
        self._taken: list[UserId] = []
        self._must_exhume = False

    def connected(self) -> None:
        """Take note that the broker may have lost what it acknowledged."""
        self._must_exhume = True

    def taken(self, ticket: ClearTicket) -> None:
        """The broker has an empty status."""
        if self._burying.get(ticket.user_id) == ticket.number:
            self._taken.append(ticket.user_id)

    def refused(self, ticket: ClearTicket) -> None:
        """The broker does not take it: it is tried again."""
        if self._burying.get(ticket.user_id) == ticket.number:
            del self._burying[ticket.user_id]

    def are_back(self, user_ids: Iterable[UserId]) -> None:
        """Users have a status again: it comes behind the empty one, which so says nothing any more."""
        if not self._burying:
            return
        for user_id in user_ids:
            self._burying.pop(user_id, None)
        self._taken = [user_id for user_id in self._taken if user_id in self._burying]

    def clear(
        self, store: Store, link: Link, now: int, forget: Callable[[Transaction, Collection[UserId]], None]
    ) -> None:
        """Note who is buried, and have cleared what is not.

        Args:
            store: has the tombstones.
            link: to the broker.
            now: epoch milliseconds.
            forget: called with those who are newly buried, in the transaction that notes it.

        Raises:
            StoreError: nothing is noted yet.

        """
        with store.transaction() as tx:
            for user_id in self._taken:
                tx.bury(user_id, now)
            if self._taken:
                forget(tx, self._taken)
            if self._must_exhume:
                tx.exhume()
            tx.forget_buried(now - _BURIED_MS)
            forgotten = tx.tombstones()
        self._must_exhume = False
        for user_id in self._taken:
            del self._burying[user_id]
        self._taken.clear()
        link.publish([self._empty(user_id) for user_id in forgotten if user_id not in self._burying])

    def _empty(self, user_id: UserId) -> Outgoing:
        self._number += 1
        self._burying[user_id] = self._number
        return Outgoing(
            self._topics.status(user_id), b"", retain=True, ticket=ClearTicket(user_id, self._number)
        )
