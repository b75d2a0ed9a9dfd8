"""Forgotten users: the broker, too, must forget their retained status.

`mqtt-presence forget` deletes a user's rows and leaves a tombstone. For each the bridge publishes an empty
retained status, and buries it once the broker has acknowledged that. A broker that is restarted may have the
status again, so what is buried is cleared again on each connect, until no broker can bring it back.
"""

from collections.abc import Callable, Collection, Sequence

from msgspec import Struct

from mqtt_presence.bridge.batch import Batch
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import Outcome, UserId
from mqtt_presence.store import Store, Transaction

# By then any broker has on its disk what it acknowledged: mosquitto unconfigured takes half an hour.
_BURIED_MS = 3_600_000


class ClearTicket(Struct, frozen=True):
    """Ticket of an empty retained status: the user it was for is forgotten by the broker too."""

    user_id: UserId
    number: int
    """Which one of this bridge's: the user may have been back in between."""


class ForgottenUsers(OnCheck):
    """Knows which empty statuses are on their way.

    Args:
        store: has the tombstones.
        topics: where the statuses are.
        clock: the bridge's.
        forget: called with those who are newly buried, in the transaction that notes it.

    """

    def __init__(
        self,
        store: Store,
        topics: Topics,
        clock: Clock,
        forget: Callable[[Transaction, Collection[UserId]], None],
    ) -> None:
        super().__init__()
        self._store = store
        self._topics = topics
        self._clock = clock
        self._forget = forget
        self._number = 0
        self._burying: dict[UserId, int] = {}
        """Whose empty status is on its way to the broker, or acknowledged and not noted yet."""
        self._taken: list[UserId] = []
        self._must_exhume = False

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Take note that the broker may have lost what it acknowledged."""
        del link, session_present, contested
        self._must_exhume = True

    def acknowledged(self, ticket: object, count: int) -> None:
        """The broker has an empty status."""
        del count
        if isinstance(ticket, ClearTicket) and self._burying.get(ticket.user_id) == ticket.number:
            self._taken.append(ticket.user_id)

    def refused(self, message: Outgoing) -> None:
        """The broker does not take it: it is tried again."""
        ticket = message.ticket
        if isinstance(ticket, ClearTicket) and self._burying.get(ticket.user_id) == ticket.number:
            del self._burying[ticket.user_id]

    def save_batch(self, tx: Transaction, batch: Batch) -> None:
        """See `BatchRecorder`."""

    def batch_given_up(self, message: Incoming) -> None:
        """See `BatchRecorder`."""

    def batch_committed(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Users have a status again: it comes behind the empty one, which so says nothing any more."""
        del batch
        if not self._burying:
            return
        for outcome in outcomes:
            if outcome.status_changed:
                self._burying.pop(outcome.user.user_id, None)
        self._taken = [user_id for user_id in self._taken if user_id in self._burying]

    def check(self, link: Link) -> bool:
        """Note who is buried, and have cleared what is not."""
        now = self._clock.now()
        with self._store.transaction() as tx:
            for user_id in self._taken:
                tx.mark_cleared(user_id, now)
            if self._taken:
                self._forget(tx, self._taken)
            if self._must_exhume:
                tx.clear_again()
            tx.forget_cleared(now - _BURIED_MS)
            forgotten = tx.uncleared()
        self._must_exhume = False
        for user_id in self._taken:
            del self._burying[user_id]
        self._taken.clear()
        link.publish([self._empty(user_id) for user_id in forgotten if user_id not in self._burying])
        return True

    def _empty(self, user_id: UserId) -> Outgoing:
        self._number += 1
        self._burying[user_id] = self._number
        return Outgoing(
            self._topics.status(user_id), b"", retain=True, ticket=ClearTicket(user_id, self._number)
        )
