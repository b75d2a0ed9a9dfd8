"""Deadlines of an open connection: when rule B1 finds it idle, and rule B2 finds it expired.

"More than the threshold ago" is strict, so a deadline is one millisecond later than the threshold.
"""

from typing import TypeVar

from msgspec.structs import replace

from mqtt_presence.rules.model import ActivityState, Connection, RuleSettings

P = TypeVar("P", bound=ActivityState)


def deadline(record: ActivityState, settings: RuleSettings) -> int | None:
    """Return when B1 or B2 must check an open connection, epoch milliseconds; None if neither ever will."""
    idle, expires = idle_at(record, settings), expires_at(record, settings)
    if idle is None or expires is None:
        return expires if idle is None else idle
    return min(idle, expires)


def idle_at(record: ActivityState, settings: RuleSettings) -> int | None:
    """Return when B1 finds an open connection idle, epoch milliseconds; None: never, or it is idle."""
    threshold = _threshold(record, settings)
    return None if threshold is None or record.idle else active_at(record) + threshold + 1


def expires_at(record: ActivityState, settings: RuleSettings) -> int | None:
    """Return when B2 finds an open connection silent for too long, epoch milliseconds; None: never."""
    timeout = _timeout(record, settings)
    return None if timeout is None else record.last_seen + timeout + 1


def next_check(record: Connection, settings: RuleSettings) -> int | None:
    """Return the same as `deadline`, or the end of the time for which an unconfirmed record is kept (I2)."""
    due, kept_until = deadline(record, settings), unconfirmed_until(record, settings)
    return due if kept_until is None else kept_until if due is None else min(due, kept_until)


def unconfirmed_until(record: Connection, settings: RuleSettings) -> int | None:
    """Return when an unconfirmed record ends (I2), epoch milliseconds; None: the record is certain."""
    since = record.unconfirmed_since
    return None if since is None else since + settings.implicit_keep_ms + 1


def is_unconfirmed_for_long(record: Connection, settings: RuleSettings, now: int) -> bool:
    """Return whether an unconfirmed record was kept for long enough (I2)."""
    since = record.unconfirmed_since
    return since is not None and now - since > settings.implicit_keep_ms


def is_idle(record: ActivityState, settings: RuleSettings, now: int) -> bool:
    """Return whether an open connection has become idle (B1)."""
    threshold = _threshold(record, settings)
    return threshold is not None and not record.idle and now - active_at(record) > threshold


def is_expired(record: ActivityState, settings: RuleSettings, now: int) -> bool:
    """Return whether an open connection has been silent for too long (B2)."""
    timeout = _timeout(record, settings)
    return timeout is not None and now - record.last_seen > timeout


def active_at(record: ActivityState) -> int:
    """Return the time from which B1 counts: the last activity, or the opening if that is later."""
    return max(record.last_activity or 0, record.opened_at or 0)


def clip_times(record: P, now: int) -> P:
    """Return the record with no time later than `now`, as after a clock that was set back."""
    seen, active, opened = record.last_seen, record.last_activity, record.opened_at
    return replace(
        record,
        last_seen=min(seen, now),
        last_activity=None if active is None else min(active, now),
        opened_at=None if opened is None else min(opened, now),
    )


def _threshold(record: ActivityState, settings: RuleSettings) -> int | None:
    """Return the idle threshold of a monitored connection; None if B1 does not monitor it.

    Monitored are connections that declared a threshold, and those with heartbeats and without reports.
    """
    if record.idle_threshold_ms is not None:
        return record.idle_threshold_ms
    return settings.idle_threshold_ms if record.heartbeats and not record.reports else None


def _timeout(record: ActivityState, settings: RuleSettings) -> int | None:
    return record.timeout_ms if record.timeout_ms is not None else settings.expire_after_ms
