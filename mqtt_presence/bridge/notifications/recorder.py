"""The recorder: queues the notifications of each transaction in that transaction, alarms among them."""

from collections.abc import Collection, Sequence
from typing import Protocol

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.commit_result import Recorded
from mqtt_presence.bridge.notifications.outages import OutageChange, Outages
from mqtt_presence.bridge.notifications.routing import Routing
from mqtt_presence.bridge.notifications.steady_clock import SteadyClock
from mqtt_presence.integrations.notifications.alarms import AlarmChange
from mqtt_presence.integrations.notifications.notification import (
    ALARM,
    ALL_CLEAR,
    Notification,
    outage_key,
    pack,
)
from mqtt_presence.protocol.outgoing import encode_event, encode_outage
from mqtt_presence.protocol.publications import Publication
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import Outcome, UserEvent, UserId
from mqtt_presence.store import Transaction

_EVENTS = {AlarmChange.RAISED: ALARM, AlarmChange.CLEARED: ALL_CLEAR}


class Wake(Protocol):
    """Wakes those who wait for notifications."""

    def queued(self, row: int, notifications: Sequence[Notification]) -> None:
        """Record that a row of the queue is committed."""


class NotificationRecorder:
    """Fills the queue.

    Args:
        routing: knows what receivers ask for.
        outages: follow the events.
        topics: the topics under the prefix in use.
        steady: the clock of the queue.
        clock: the bridge's.
        wake: is told of each committed row.

    """

    def __init__(
        self,
        routing: Routing,
        outages: Outages,
        topics: Topics,
        steady: SteadyClock,
        clock: Clock,
        wake: Wake,
    ) -> None:
        self._routing = routing
        self._outages = outages
        self._topics = topics
        self._steady = steady
        self._clock = clock
        self._wake = wake

    def restore(self, tx: Transaction) -> None:
        """Read the state of the clock; for records before the bridge starts."""
        self._steady.restore(tx)

    def record(self, tx: Transaction, outcomes: Sequence[Outcome]) -> Recorded:
        """See `OutcomeRecorder`."""
        now = self._clock.now()
        notifications = [
            notification
            for outcome in outcomes
            if outcome.events
            for notification in self._events(outcome, now)
        ]
        if not self._routing.conditions:
            return self._queue(tx, now, notifications, [])
        changes, followed = self._outages.follow(tx, outcomes, now)
        publications, queued = self._queue(tx, now, notifications, changes)

        def committed() -> None:
            followed()
            queued()

        return publications, committed

    def check(self, tx: Transaction, until: int, limit: int) -> Recorded:
        """Raise the alarms that are due; see `Outages.check`."""
        now = self._clock.now()
        changes, checked = self._outages.check(tx, until, now, limit)
        publications, queued = self._queue(tx, now, [], changes)

        def committed() -> None:
            checked()
            queued()

        return publications, committed

    def forget(self, tx: Transaction, user_ids: Collection[UserId]) -> None:
        """Forget the outages of users that were forgotten."""
        tx.forget_alarms(user_ids)
        self._outages.recount()

    def _events(self, outcome: Outcome, now: int) -> list[Notification]:
        user = outcome.user
        wanted = self._routing.events_of(user.user_id)
        return [
            Notification(
                event.name,
                user.user_id,
                encode_event(event, user.version),
                event.time if isinstance(event, UserEvent) else now,
                user.version,
            )
            for event in outcome.events
            if event.name in wanted
        ]

    def _queue(
        self,
        tx: Transaction,
        now: int,
        notifications: list[Notification],
        changes: Sequence[OutageChange],
    ) -> Recorded:
        publications = []
        for change in changes:
            notification = _notification(change, now)
            topic = self._topics.event(change.subject, notification.event)
            publications.append(Publication(topic, notification.data))
            notifications.append(notification)
        if not notifications:
            return publications, _nothing
        row = tx.put_notifications(self._steady.now(), pack(now, notifications))
        return publications, lambda: self._wake.queued(row, notifications)


def _notification(change: OutageChange, now: int) -> Notification:
    condition = str(change.condition)
    return Notification(
        _EVENTS[change.change],
        change.subject,
        encode_outage(change.subject, condition, since=change.since, time=now, count=change.count),
        now,
        condition=condition,
        outage=outage_key(condition, change.subject, change.since),
    )


def _nothing() -> None:
    """Nothing was queued."""
