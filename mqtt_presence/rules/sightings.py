"""Sightings: a device's own topics show that the device is there (S1, S2, S3)."""

from msgspec.structs import replace

from mqtt_presence.rules.activity import changes_idle
from mqtt_presence.rules.capacity import refuses_new_connection, refuses_reopening
from mqtt_presence.rules.deadlines import deadline
from mqtt_presence.rules.events import Sighting
from mqtt_presence.rules.ledger import Ledger
from mqtt_presence.rules.model import NO_META, Connection, ConnectionEvent, Reason, Rule, RuleSettings
from mqtt_presence.rules.transitions import close_record, may_reopen, new_record, open_record, reopen_record


def handle_sighting(ledger: Ledger, sighting: Sighting) -> None:
    """Apply S1, S2 or S3."""
    record = ledger.connections.get((sighting.client_id, sighting.connection_id))
    if record is not None and not record.is_open:
        is_reopened = sighting.revives or (sighting.is_live and may_reopen(ledger, record))
        if not is_reopened or refuses_reopening(ledger, record):  # S3
            ledger.ignored.append("sighting_after_end")
            return
        record = reopen_record(ledger, record, sighting.now, Rule.S3)
    elif record is None:  # S1
        if refuses_new_connection(ledger, sighting):
            return
        for other in ledger.open_of(sighting.client_id):
            close_record(ledger, other, Reason.SUPERSEDED, sighting.now, Rule.S1)
        record = open_record(ledger, _s2_apply(new_record(sighting), sighting, ledger.settings), Rule.S1)
    if sighting.is_live:
        ledger.see(sighting.now)
    fresh = _s2_apply(record, sighting, ledger.settings)
    if fresh != record:
        ledger.put(fresh)
    if record.idle is not None and changes_idle(record, fresh):
        ledger.events.append(ConnectionEvent("connectionIdle" if fresh.idle else "connectionActive", fresh))


def _s2_apply(record: Connection, sighting: Sighting, settings: RuleSettings) -> Connection:
    """Return an open record with everything that a sighting mentions.

    The record counts as one that reports by itself, so rule B1 never makes it idle.
    """
    idle = record.idle is True if sighting.idle is None else sighting.idle
    becomes_idle = idle and record.idle is not True
    last = record.last_activity
    fresh = replace(
        record,
        last_seen=max(record.last_seen, sighting.now) if sighting.is_live else record.last_seen,
        reports=True,
        idle=idle,
        last_activity=max(last or 0, sighting.now) if becomes_idle else last,
        timeout_ms=record.timeout_ms if sighting.timeout_ms is None else sighting.timeout_ms or None,
        meta=record.meta if sighting.meta is None else None if sighting.meta == NO_META else sighting.meta,
    )
    due = deadline(fresh, settings) if fresh.opened_at is not None else None
    if record.timeout_ms == fresh.timeout_ms and due is not None and record.check_at is not None:
        due = min(due, record.check_at)  # A later deadline is not written: the check computes it again.
    return replace(fresh, check_at=due)
