"""Signs of life (A1), and when a connection must be looked at (B1, B2).

Pure, and a part of the rules of its own because most of what comes is heartbeats: all that matters to one
is the client's open connection, and most often nothing else is changed by it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard, TypeVar

from msgspec.structs import replace

from mqtt_presence.rules.model import Activity, ActivityState, Event, Key, RuleSettings

P = TypeVar("P", bound=ActivityState)


def is_heartbeat(event: object) -> TypeGuard[Activity]:
    """Tell whether it says no more than that its client lives."""
    return isinstance(event, Activity) and event.idle is None


def only_heartbeats(events: Sequence[Event]) -> Sequence[Activity]:
    """Give the events if all are heartbeats, else none: what is none comes because something has changed."""
    beats = [event for event in events if is_heartbeat(event)]
    return beats if len(beats) == len(events) else ()


def settle_heartbeats(
    beats: Iterable[Activity], live: Mapping[Key, ActivityState], settings: RuleSettings
) -> Sequence[ActivityState] | None:
    """Decide on signs of life of one user that change nothing but their connections' activity.

    Args:
        beats: what came, all of this user, in its order.
        live: every live connection of the clients it came from.
        settings: thresholds.

    Returns:
        What to save; None: there is more to it, which `rules.fold` must decide, knowing all of the user.
        Where this decides, that would decide the same, and have nothing to tell.

    """
    settled: dict[Key, ActivityState] = {}
    for beat in beats:
        known: ActivityState | None
        if beat.connection_id is None:
            now_live = {**live, **settled}.values()
            known = nameless(p for p in now_live if p.client_id == beat.client_id and p.is_open)
        else:
            key = (beat.client_id, beat.connection_id)
            known = settled.get(key) or live.get(key)
        if known is None or not known.is_open:
            return None
        fresh = after(known, beat, settings)
        if is_news(known, fresh):
            return None
        settled[fresh.client_id, fresh.connection_id] = fresh
    return list(settled.values())


def nameless(open_ones: Iterable[P]) -> P | None:
    """Find the open connection of a client that an activity without an id means."""
    return max(open_ones, key=lambda p: (p.login_order or 0, p.last_seen, p.connection_id), default=None)


def after(known: P, activity: Activity, settings: RuleSettings) -> P:
    """A1: make of an open connection what a report or a heartbeat makes of it."""
    now = activity.now
    told = activity.last_activity
    stamp = now if told is None else min(told, now)
    last = known.last_activity
    heartbeat = activity.idle is None
    accepted = (
        last is None
        or stamp > last
        # Stamped on receipt: it is no old one, whatever the clock says.
        or told is None
        or told > now
        # Who acted and then did nothing is idle since that same moment: of two such, idle is the later.
        or (stamp == last and (activity.idle is True or known.idle is None))
    )
    fresh = replace(
        known,
        last_seen=max(known.last_seen, now),
        heartbeats=known.heartbeats or heartbeat,
        reports=known.reports or not heartbeat,
        idle=activity.idle is True if accepted else known.idle,
        last_activity=max(stamp, last or 0) if accepted else last,
    )
    due = deadline(fresh, settings)
    if due is not None and (known.check_at is None or due < known.check_at):
        return replace(fresh, check_at=due)  # a later one need not be written: the check will find out
    return fresh


def cut(known: P, now: int) -> P:
    """Leave nothing of a connection ahead of now, as after the clock was set back."""
    seen, active, opened = known.last_seen, known.last_activity, known.opened_at
    return replace(
        known,
        last_seen=min(seen, now),
        last_activity=None if active is None else min(active, now),
        opened_at=None if opened is None else min(opened, now),
    )


def is_news(known: ActivityState, fresh: ActivityState) -> bool:
    """Tell whether what an activity has changed is an event, and may change the user's status."""
    return fresh.idle != known.idle or (fresh.idle is True and fresh.last_activity != known.last_activity)


# Deadlines. "More than the threshold ago" is strict, hence the one millisecond.


def deadline(known: ActivityState, settings: RuleSettings) -> int | None:
    """Tell when B1 or B2 must look at an open connection, epoch milliseconds; None: never, as it is now."""
    threshold, timeout = _threshold(known, settings), _timeout(known, settings)
    idle_at = None if threshold is None or known.idle else active_at(known) + threshold + 1
    gone_at = None if timeout is None else known.last_seen + timeout + 1
    if idle_at is None or gone_at is None:
        return gone_at if idle_at is None else idle_at
    return min(idle_at, gone_at)


def is_idle(known: ActivityState, settings: RuleSettings, now: int) -> bool:
    """B1: tell whether an open connection has become idle."""
    threshold = _threshold(known, settings)
    return threshold is not None and not known.idle and now - active_at(known) > threshold


def is_expired(known: ActivityState, settings: RuleSettings, now: int) -> bool:
    """B2: tell whether nothing was heard of an open connection for too long."""
    timeout = _timeout(known, settings)
    return timeout is not None and now - known.last_seen > timeout


def active_at(known: ActivityState) -> int:
    """When a connection was last active as far as B1 is concerned: its activity, or its login."""
    return max(known.last_activity or 0, known.opened_at or 0)


def _threshold(known: ActivityState, settings: RuleSettings) -> int | None:
    """Whom B1 monitors: who declared a threshold, or sends heartbeats and does not report itself."""
    if known.idle_threshold_ms is not None:
        return known.idle_threshold_ms
    return settings.idle_threshold_ms if known.heartbeats and not known.reports else None


def _timeout(known: ActivityState, settings: RuleSettings) -> int | None:
    return known.timeout_ms if known.timeout_ms is not None else settings.expire_after_ms
