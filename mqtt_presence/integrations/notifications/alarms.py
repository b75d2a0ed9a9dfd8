"""Alarms: when a condition begins to hold, is due as an alarm, and is over. Pure.

An `Outage` begins when its condition begins to hold, and ends when the condition no longer holds. If it lasts
until it is due, it is raised: one alarm. If it was raised, its end is one all-clear. `now` and `due_at` are
times of a clock that is never set; `since` is a time to show, epoch milliseconds.
"""

from collections.abc import Sequence
from enum import Enum, auto

from msgspec import Struct
from msgspec.structs import replace

from mqtt_presence.integrations.notifications.conditions import Condition, ConditionKind

_BEGINS = {ConditionKind.OFFLINE: "userOffline", ConditionKind.IDLE: "userIdle"}
_ENDS = {ConditionKind.OFFLINE: ("userOnline",), ConditionKind.IDLE: ("userActive", "userOffline")}


class Outage(Struct, frozen=True):
    """A condition that holds for one subject; for flaps, also ends that are still counted."""

    since: int
    due_at: int | None
    """When it is raised; for raised flaps, when it is over."""
    is_raised: bool = False
    times: tuple[int, ...] = ()
    """The counted ends, for flaps."""


class AlarmChange(Enum):
    """What became of an outage."""

    RAISED = auto()
    CLEARED = auto()


Step = tuple[Outage | None, AlarmChange | None]
"""The outage after a step, and the change to announce."""


def after_event(condition: Condition, outage: Outage | None, event: str, since: int, now: int) -> Step:
    """Return the outage of a user after one of the user's events.

    Args:
        condition: of one user.
        outage: before the event; None: none.
        event: the name, e.g. ``userOffline``.
        since: the time of the event, epoch milliseconds.
        now: the time by the steady clock, milliseconds.

    """
    if condition.kind is ConditionKind.FLAPS:
        return (_flapped(condition, outage, since, now) if event == "userOffline" else outage), None
    if event == _BEGINS[condition.kind]:
        return outage or Outage(since, now + condition.duration_ms), None
    if event in _ENDS[condition.kind]:
        return _over(outage)
    return outage, None


def after_count(condition: Condition, outage: Outage | None, online: int, since: int, now: int) -> Step:
    """Return the outage of a group when so many of its users are online; else as `after_event`."""
    if online >= condition.limit:
        return _over(outage)
    return outage or Outage(since, now + condition.duration_ms), None


def when_due(condition: Condition, outage: Outage, now: int) -> Step:
    """Return the outage after its time has come."""
    if outage.due_at is None or outage.due_at > now:
        return outage, None
    if condition.kind is not ConditionKind.FLAPS:
        return replace(outage, due_at=None, is_raised=True), AlarmChange.RAISED
    if outage.is_raised:
        return None, AlarmChange.CLEARED
    if len(outage.times) > condition.limit:
        over_at = outage.times[-1] + condition.duration_ms
        return replace(outage, due_at=over_at, is_raised=True), AlarmChange.RAISED
    return None, None


def restarted(condition: Condition, outage: Outage, now: int) -> Outage:
    """Return the outage in the next run: no deadline lies farther ahead than it can."""
    if outage.due_at is None:
        return outage
    return replace(outage, due_at=min(outage.due_at, now + condition.duration_ms))


def _over(outage: Outage | None) -> Step:
    return None, AlarmChange.CLEARED if outage is not None and outage.is_raised else None


def _flapped(condition: Condition, outage: Outage | None, since: int, now: int) -> Outage:
    before: Sequence[int] = () if outage is None else outage.times
    times = (*(time for time in before if now - condition.duration_ms < time <= now), now)
    if outage is not None and outage.is_raised:
        # Over when a whole period has passed without an end: an alarm that follows each end would be noise.
        return replace(outage, times=times[-1:], due_at=now + condition.duration_ms)
    times = times[-(condition.limit + 1) :]
    is_due = len(times) > condition.limit
    return Outage(since - (now - times[0]), now if is_due else now + condition.duration_ms, times=times)
