"""Monitoring: idle (B1), silent (B2) and unconfirmed (B3) connections, and a clock that was set back."""

from msgspec.structs import replace

from mqtt_presence.rules.deadlines import (
    active_at,
    clip_times,
    is_expired,
    is_idle,
    is_unconfirmed_for_long,
    next_check,
)
from mqtt_presence.rules.events import CheckDeadlines, ClockSteppedBack, EndUnconfirmed
from mqtt_presence.rules.ledger import Ledger
from mqtt_presence.rules.model import Connection, ConnectionEvent, Reason, Rule
from mqtt_presence.rules.transitions import close_record


def handle_check_deadlines(ledger: Ledger, check: CheckDeadlines) -> None:
    """Apply B1, B2 and I2, and the end of the grace, to the records that are due."""
    now = check.now
    for record in [*ledger.connections.values()]:
        if record.check_at is None or record.check_at > now:
            continue
        if not record.is_open:
            ledger.put(replace(record, check_at=None))  # The grace has ended.
            continue
        if record.unconfirmed_since is not None and record.last_seen > record.unconfirmed_since:
            record = replace(record, unconfirmed_since=None)  # noqa: PLW2901 - a message has confirmed it
        if is_expired(record, ledger.settings, now):
            close_record(ledger, record, Reason.TIMEOUT, now, Rule.B2)
        elif is_unconfirmed_for_long(record, ledger.settings, now):
            close_record(ledger, record, Reason.UNCONFIRMED, now, Rule.I2)
        elif is_idle(record, ledger.settings, now):
            _b1_become_idle(ledger, record)
        else:
            ledger.put(replace(record, check_at=next_check(record, ledger.settings)))


def _b1_become_idle(ledger: Ledger, record: Connection) -> None:
    idle = replace(record, idle=True, last_activity=active_at(record))
    ledger.put(replace(idle, check_at=next_check(idle, ledger.settings)))
    ledger.events.append(ConnectionEvent("connectionIdle", idle))


def handle_end_unconfirmed(ledger: Ledger, confirm: EndUnconfirmed) -> None:
    """Apply B3 to the open connections that were silent since an announcement, or a restart of the broker."""
    for record in [*ledger.connections.values()]:
        answers = record.origin in confirm.origins if confirm.origins else record.announce
        if record.is_open and answers and record.last_seen < confirm.announced_at:
            close_record(ledger, record, Reason.UNCONFIRMED, confirm.now, Rule.B3)


def handle_clock_stepped_back(ledger: Ledger, step: ClockSteppedBack) -> None:
    """Let silence, idleness and grace count from the new time, not from times in the future."""
    latest_grace = step.now + ledger.settings.grace_ms
    for record in [*ledger.connections.values()]:
        clipped = clip_times(record, step.now)
        if record.is_open:
            since = record.unconfirmed_since
            clipped = replace(clipped, unconfirmed_since=None if since is None else min(since, step.now))
            if clipped != record:
                ledger.put(replace(clipped, check_at=next_check(clipped, ledger.settings)))
        elif record.check_at is not None and record.check_at > latest_grace:
            ledger.put(replace(clipped, check_at=latest_grace))
