"""Activity messages (A1, A2, A3), and the short way for heartbeats.

Most messages are heartbeats, and a heartbeat usually changes only its own connection. So the short way
needs only the live connections of its client, not the whole user.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard, TypeVar

from msgspec.structs import replace

from mqtt_presence.rules.capacity import refuses_new_connection, refuses_reopening
from mqtt_presence.rules.deadlines import deadline
from mqtt_presence.rules.events import Activity, Event
from mqtt_presence.rules.ledger import Ledger
from mqtt_presence.rules.model import ActivityState, Connection, ConnectionEvent, Key, Rule, RuleSettings
from mqtt_presence.rules.transitions import may_reopen, new_record, open_record, reopen_record

P = TypeVar("P", bound=ActivityState)


def handle_activity(ledger: Ledger, activity: Activity) -> None:
    """Apply A1, A2 or A3."""
    record = _find(ledger, activity)
    if refuses_new_connection(ledger, activity) if record is None else refuses_reopening(ledger, record):
        return
    ledger.see(activity.now)
    if record is None:
        record = open_record(ledger, new_record(activity), Rule.A2)
    elif not record.is_open:
        if not may_reopen(ledger, record):
            ledger.ignored.append("activity_after_end")  # A3
            return
        record = reopen_record(ledger, record, activity.now, Rule.A3)  # after a guessed end
    _a1_apply(ledger, record, activity)


def _find(ledger: Ledger, activity: Activity) -> Connection | None:
    if activity.connection_id is not None:
        return ledger.connections.get((activity.client_id, activity.connection_id))
    return latest_open(ledger.open_of(activity.client_id))


def _a1_apply(ledger: Ledger, record: Connection, activity: Activity) -> None:
    is_late = ledger.is_late(record.last_seen, activity.now)
    fresh = after_activity(record, activity, ledger.settings, is_late=is_late)
    ledger.put(fresh, activity_only=True)
    if changes_idle(record, fresh):
        ledger.events.append(ConnectionEvent("connectionIdle" if fresh.idle else "connectionActive", fresh))


def latest_open(records: Iterable[P]) -> P | None:
    """Return the open connection of a client that an activity without a connection id means."""
    return max(records, key=lambda p: (p.login_order or 0, p.last_seen, p.connection_id), default=None)


def after_activity(record: P, activity: Activity, settings: RuleSettings, *, is_late: bool = False) -> P:
    """Return an open connection after a report or a heartbeat (A1).

    Args:
        record: the connection.
        activity: the message.
        settings: thresholds.
        is_late: whether another bridge has processed a later message of the connection before.

    """
    now = activity.now
    claimed = activity.last_activity
    stamp = now if claimed is None else settings.trusted(claimed, now)
    last = record.last_activity
    heartbeat = activity.idle is None
    accepted = (
        last is None
        or stamp > last
        # Stamped on receipt: such a message is newer than the last one, even after a clock that was ahead.
        or ((claimed is None or claimed != stamp) and not is_late)
        # A client that acts and then stops is idle since the moment of its last act, so the idle report wins.
        or (stamp == last and (activity.idle is True or record.idle is None))
    )
    fresh = replace(
        record,
        last_seen=max(record.last_seen, now),
        heartbeats=record.heartbeats or heartbeat,
        reports=record.reports or not heartbeat,
        idle=activity.idle is True if accepted else record.idle,
        last_activity=max(stamp, last or 0) if accepted else last,
    )
    due = deadline(fresh, settings)
    if due is not None and (record.check_at is None or due < record.check_at):
        return replace(fresh, check_at=due)
    return fresh  # A later deadline is not written: the check at the earlier one computes it again.


def changes_idle(record: ActivityState, fresh: ActivityState) -> bool:
    """Return whether an activity has an event, and may change the user's status."""
    return fresh.idle != record.idle or (fresh.idle is True and fresh.last_activity != record.last_activity)


# The short way.


def is_heartbeat(event: object) -> TypeGuard[Activity]:
    """Return whether an event is an activity without a report."""
    return isinstance(event, Activity) and event.idle is None


def only_heartbeats(events: Sequence[Event]) -> Sequence[Activity]:
    """Return the events if all of them are heartbeats, else an empty sequence."""
    beats = [event for event in events if is_heartbeat(event)]
    return beats if len(beats) == len(events) else ()


def settle_heartbeats(
    beats: Iterable[Activity], live: Mapping[Key, ActivityState], settings: RuleSettings
) -> Sequence[ActivityState] | None:
    """Apply heartbeats of one user that change only the activity of their connections.

    Args:
        beats: the heartbeats, in their order.
        live: all live connections of their clients.
        settings: the thresholds.

    Returns:
        The connections to save; None if `fold` must decide with the whole user. Otherwise `fold` would save
        the same connections and produce no event.

    """
    settled: dict[Key, ActivityState] = {}
    for beat in beats:
        record: ActivityState | None
        if beat.connection_id is None:
            now_live = {**live, **settled}.values()
            record = latest_open(p for p in now_live if p.client_id == beat.client_id and p.is_open)
        else:
            key = (beat.client_id, beat.connection_id)
            record = settled.get(key) or live.get(key)
        if record is None or not record.is_open:
            return None
        fresh = after_activity(record, beat, settings)
        if changes_idle(record, fresh):
            return None
        settled[fresh.client_id, fresh.connection_id] = fresh
    return list(settled.values())
