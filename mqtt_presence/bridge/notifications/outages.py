"""Outages in the database: follows the users' events and the numbers of users online, and raises alarms."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mqtt_presence.bridge.notifications.routing import Routing
from mqtt_presence.bridge.notifications.steady_clock import SteadyClock
from mqtt_presence.integrations.notifications.alarms import (
    AlarmChange,
    Outage,
    after_count,
    after_event,
    when_due,
)
from mqtt_presence.integrations.notifications.conditions import Condition, ConditionKind
from mqtt_presence.rules.model import Outcome, UserEvent
from mqtt_presence.store import Transaction
from mqtt_presence.store.alarm_table import StoredAlarm

_COUNTED = {"userOnline": 1, "userOffline": -1}
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class OutageChange:
    """An alarm or an all-clear to announce."""

    condition: Condition
    subject: str
    change: AlarmChange
    since: int
    """When the condition began to hold, epoch milliseconds."""
    count: int | None


class Outages:
    """Follows the outages of users and groups.

    Args:
        routing: knows the conditions.
        steady: the clock of deadlines.

    """

    def __init__(self, routing: Routing, steady: SteadyClock) -> None:
        self._routing = routing
        self._steady = steady
        self._online: dict[str, int] | None = None
        """The users online of each pattern, as committed; None: not counted yet."""
        self.next_due: int | None = 0
        """A time by the steady clock before which no alarm is due; None: never."""

    def recount(self) -> None:
        """Have the users online counted again: a user was forgotten."""
        self._online = None
        self.next_due = 0

    def follow(
        self, tx: Transaction, outcomes: Sequence[Outcome], now: int
    ) -> tuple[list[OutageChange], Callable[[], None]]:
        """Store the effects of outcomes.

        Args:
            tx: the transaction of the outcomes.
            outcomes: of the rules.
            now: the time, epoch milliseconds.

        Returns:
            The changes, and a function to call once they are committed.

        """
        changes = self._follow_users(tx, outcomes)
        more: dict[str, int] = {}
        for outcome in outcomes:
            for event in outcome.events:
                by = _COUNTED.get(event.name)
                if by is not None:
                    for pattern in self._routing.patterns_of(outcome.user.user_id):
                        more[pattern] = more.get(pattern, 0) + by
        more = {pattern: by for pattern, by in more.items() if by}
        if not more or self._online is None:
            return changes, lambda: None
        counts = {pattern: self._online[pattern] + by for pattern, by in more.items()}
        changes += self._follow_groups(tx, counts, now)
        return changes, lambda: self._online.update(counts) if self._online is not None else None

    def check(
        self, tx: Transaction, until: int, now: int, limit: int
    ) -> tuple[list[OutageChange], Callable[[], None]]:
        """Raise the alarms that are due, and clear flaps that are over.

        Args:
            tx: the transaction.
            until: the time up to which all messages are processed, by the steady clock, milliseconds.
            now: the time, epoch milliseconds.
            limit: the greatest number of alarms.

        Returns:
            As `follow`.

        """
        counted = self._online
        changes: list[OutageChange] = []
        if counted is None:
            counted = self._count(tx.online_users())
            changes = self._follow_groups(tx, counted, now)
        changed: dict[Key, StoredAlarm | None] = {}
        for stored in tx.due_alarms(until, limit):
            condition = self._routing.conditions.get(stored.condition)
            if condition is None:
                continue
            outage = _outage(stored)
            outage_after, change = when_due(condition, outage, until)
            changed[stored.condition, stored.subject] = _stored(condition, stored.subject, outage_after)
            if change is not None:
                count = counted.get(stored.subject) if condition.is_of_group else _count_of(condition, outage)
                changes.append(OutageChange(condition, stored.subject, change, outage.since, count))
        tx.save_alarms(changed)
        next_due = tx.next_due_alarm()

        def committed() -> None:
            self._online = counted
            self.next_due = next_due

        return changes, committed

    def _count(self, user_ids: Iterable[str]) -> dict[str, int]:
        counts = dict.fromkeys(self._routing.groups, 0)
        if counts:
            for user_id in user_ids:
                for pattern in self._routing.patterns_of(user_id):
                    counts[pattern] += 1
        return counts

    def _follow_users(self, tx: Transaction, outcomes: Sequence[Outcome]) -> list[OutageChange]:
        events: dict[Key, list[UserEvent]] = {}
        for outcome in outcomes:
            conditions = self._routing.conditions_of(outcome.user.user_id)
            if not conditions:
                continue
            of_user = [event for event in outcome.events if isinstance(event, UserEvent)]
            if of_user:
                for condition in conditions:
                    events[str(condition), outcome.user.user_id] = of_user
        if not events:
            return []
        stored = tx.alarms(list(events))
        changed: dict[Key, StoredAlarm | None] = {}
        changes: list[OutageChange] = []
        for key, of_user in events.items():
            condition, before = self._routing.conditions[key[0]], stored.get(key)
            outage = None if before is None else _outage(before)
            for event in of_user:
                at = min(self._steady.of(event.time), self._steady.now())
                was = outage
                outage, change = after_event(condition, outage, event.name, event.time, at)
                if change is not None and was is not None:
                    count = _count_of(condition, was)
                    changes.append(OutageChange(condition, key[1], change, was.since, count))
            self._note(changed, condition, key, before, outage)
        tx.save_alarms(changed)
        return changes

    def _follow_groups(self, tx: Transaction, counts: dict[str, int], now: int) -> list[OutageChange]:
        keys = {
            (str(condition), pattern): condition
            for pattern in counts
            for condition in self._routing.groups[pattern]
        }
        stored = tx.alarms(list(keys))
        changed: dict[Key, StoredAlarm | None] = {}
        changes: list[OutageChange] = []
        for key, condition in keys.items():
            before, online = stored.get(key), counts[key[1]]
            was = None if before is None else _outage(before)
            outage, change = after_count(condition, was, online, now, self._steady.of(now))
            if change is not None and was is not None:
                changes.append(OutageChange(condition, key[1], change, was.since, online))
            self._note(changed, condition, key, before, outage)
        tx.save_alarms(changed)
        return changes

    def _note(
        self,
        changed: dict[Key, StoredAlarm | None],
        condition: Condition,
        key: Key,
        before: StoredAlarm | None,
        outage: Outage | None,
    ) -> None:
        """Note a changed row, and its deadline; if the transaction fails, it costs one check for nothing."""
        after = _stored(condition, key[1], outage)
        if after != before:
            changed[key] = after
        if outage is not None and outage.due_at is not None:
            self.next_due = outage.due_at if self.next_due is None else min(self.next_due, outage.due_at)


def _count_of(condition: Condition, outage: Outage) -> int | None:
    return len(outage.times) if condition.kind is ConditionKind.FLAPS else None


def _outage(stored: StoredAlarm) -> Outage:
    return Outage(stored.since, stored.due_at, stored.raised, stored.times)


def _stored(condition: Condition, subject: str, outage: Outage | None) -> StoredAlarm | None:
    if outage is None:
        return None
    return StoredAlarm(str(condition), subject, outage.since, outage.due_at, outage.is_raised, outage.times)
