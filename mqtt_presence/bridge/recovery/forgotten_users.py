"""Forgotten users: clears their retained messages at the broker, the status last.

`mqtt-presence forget` deletes a user's rows and leaves a tombstone. For each tombstone the bridge publishes
empty retained messages, and marks the tombstone as cleared once the broker has acknowledged them. A
restarted broker may have the old messages again, so the bridge clears them again on each connect for an hour.
"""

from collections.abc import Callable, Collection, Sequence

from msgspec import Struct

from mqtt_presence.bridge.batch_recorder import Batch
from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.committer import Committer
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.integrations.outputs import Outputs
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.rules.model import Outcome, UserId
from mqtt_presence.store import Store, Transaction

# By then every broker has saved its acknowledged messages: mosquitto does so every half hour by default.
_CLEARED_MS = 3_600_000


class ClearTicket(Struct, frozen=True):
    """Ticket of an empty retained message."""

    user_id: UserId
    number: int
    """Counts the attempts: the user may have returned between two of them."""


class ForgottenUsers(OnCheck):
    """Publishes empty retained messages, and follows their acknowledgements.

    Args:
        store: has the tombstones.
        outputs: name the topics of a user.
        clock: the bridge's.
        forget: called with the newly cleared users, in the transaction that marks them.
        committer: publishes the statuses of users that have come back by another bridge.

    """

    is_of_all = False

    def __init__(
        self,
        store: Store,
        outputs: Outputs,
        clock: Clock,
        forget: Callable[[Transaction, Collection[UserId]], None],
        committer: Committer,
    ) -> None:
        super().__init__()
        self._store = store
        self._outputs = outputs
        self._clock = clock
        self._forget = forget
        self._committer = committer
        self._number = 0
        self._clearing: dict[UserId, int] = {}
        """The users whose empty messages are in flight, or acknowledged and not marked yet; with a number."""
        self._unacknowledged: dict[ClearTicket, int] = {}
        """The number of empty messages that the broker has not acknowledged."""
        self._cleared: list[UserId] = []
        self._must_clear_again = False

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """Clear all messages again: the broker may have lost its acknowledged messages."""
        del link, session_present, contested
        self._must_clear_again = True

    def acknowledged(self, ticket: object, count: int) -> None:
        """Record that the broker has an empty message."""
        if isinstance(ticket, ClearTicket) and ticket in self._unacknowledged:
            self._unacknowledged[ticket] -= count
            if self._unacknowledged[ticket] == 0:
                del self._unacknowledged[ticket]
                self._cleared.append(ticket.user_id)

    def refused(self, message: Outgoing) -> None:
        """Have the empty messages published again if the broker has refused one."""
        ticket = message.ticket
        if isinstance(ticket, ClearTicket) and ticket in self._unacknowledged:
            self._give_up(ticket.user_id)

    def save_batch(self, tx: Transaction, batch: Batch) -> None:
        """See `BatchRecorder`."""

    def batch_given_up(self, message: Incoming) -> None:
        """See `BatchRecorder`."""

    def batch_committed(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Keep the tombstones of users that have a status again: it follows the empty one."""
        del batch
        if not self._clearing:
            return
        for outcome in outcomes:
            if outcome.status_changed:
                self._give_up(outcome.user.user_id)
        self._cleared = [user_id for user_id in self._cleared if user_id in self._clearing]

    def check(self, link: Link) -> bool:
        """Mark the cleared users, and publish empty messages for the others."""
        now = self._clock.now()
        with self._store.transaction() as tx:
            # The entry of a user whose empty messages are on their way stays until they are acknowledged.
            back = [u for u in tx.returned_users() if u not in self._clearing or u in self._cleared]
            for user_id in self._cleared:
                tx.mark_cleared(user_id, now)
            if self._cleared:
                self._forget(tx, self._cleared)
            if self._must_clear_again:
                tx.clear_again()
            tx.forget_cleared(now - _CLEARED_MS)
            forgotten = tx.uncleared()
        self._must_clear_again = False
        for user_id in self._cleared:
            del self._clearing[user_id]
        self._cleared.clear()
        if back:
            self._come_back(link, back)
        for user_id in forgotten:
            if user_id not in self._clearing and user_id not in back:
                link.publish(self._empty(user_id))
        return True

    def _come_back(self, link: Link, user_ids: Collection[UserId]) -> None:
        """End the tombstones of users who have a status again."""
        if not self._committer.is_alone:  # the empty status may have reached the broker after the new one
            self._committer.publish_present(link, user_ids)
        with self._store.transaction() as tx:
            tx.end_tombstones(user_ids)

    def _empty(self, user_id: UserId) -> list[Outgoing]:
        self._number += 1
        self._clearing[user_id] = self._number
        ticket = ClearTicket(user_id, self._number)
        messages = [
            Outgoing(topic, b"", retain=True, ticket=ticket) for topic in self._outputs.topics(user_id)
        ]
        self._unacknowledged[ticket] = len(messages)
        return messages

    def _give_up(self, user_id: UserId) -> None:
        """Forget the empty messages in flight: the user has a status again, or they are published anew."""
        number = self._clearing.pop(user_id, None)
        if number is not None:
            self._unacknowledged.pop(ClearTicket(user_id, number), None)
