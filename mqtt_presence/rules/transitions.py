"""Transitions of a connection record: made, opened, reopened, closed; with their events."""

from msgspec.structs import replace

from mqtt_presence.rules.deadlines import clip_times, deadline
from mqtt_presence.rules.events import Activity, Login, NetworkOpened, Sighting
from mqtt_presence.rules.ledger import Ledger
from mqtt_presence.rules.model import BROKER, GUESSED, Connection, ConnectionEvent, Reason, Rule


def new_record(event: Login | Activity | Sighting | NetworkOpened) -> Connection:
    """Return the record of an unseen connection."""
    connection_id = event.connection_id or (event.fresh_id if isinstance(event, Login | Activity) else None)
    if connection_id is None:
        raise ValueError("an event without connection_id needs a fresh_id")
    return Connection(
        user_id=event.user_id,
        client_id=event.client_id,
        connection_id=connection_id,
        client_named=event.connection_id is not None and not isinstance(event, NetworkOpened),
        last_seen=event.now,
        ip_addr=event.ip_addr,
        network_id=event.network_id,
        origin=event.origin,
    )


def open_record(ledger: Ledger, record: Connection, rule: Rule) -> Connection:
    """Open a record for the first time (L1, A2, S1, I1)."""
    now = record.last_seen
    login_time = record.login_time if record.login_time is not None else now
    ledger.publish(now)
    return _open(ledger, replace(record, login_time=login_time, opened_at=now, opened_by=rule), rule)


def may_reopen(ledger: Ledger, record: Connection) -> bool:
    """Return whether a sign of life reopens an ended record (L3, A3).

    The end must be a guess, and the client must have no newer connection.
    """
    if record.reason not in GUESSED:
        return False
    order = record.login_order if record.login_order is not None else record.login_time or 0
    latest = ledger.latest_login.get(record.client_id)
    if latest is not None and latest > order:
        return False
    return all(c.login_order is None or c.login_order <= order for c in ledger.open_of(record.client_id))


def reopen_record(ledger: Ledger, record: Connection, now: int, rule: Rule) -> Connection:
    """Take back an end (L3, A3, S3), and supersede the client's other connections."""
    for other in ledger.open_of(record.client_id):
        if other.login_order is not None:
            close_record(ledger, other, Reason.SUPERSEDED, now, rule)
    seen = ledger.not_before(record.last_seen, now)
    # The clock may have been set back since the end.
    record = clip_times(record, now if ledger.present is None else ledger.present)
    reopened = replace(
        record,
        logout_time=None,
        reason=None,
        cause=None,
        opened_at=now,
        last_seen=seen,
        opened_by=rule,
        ended_by=None,
        corrected_by=None,
        corrected_at=None,
    )
    return _open(ledger, reopened, rule)


def _open(ledger: Ledger, record: Connection, rule: Rule) -> Connection:
    if record.origin != BROKER:  # I1: a client that sends messages needs no record of the broker's
        for other in ledger.open_of(record.client_id):
            if other.origin == BROKER:
                close_record(ledger, other, Reason.SUPERSEDED, record.last_seen, rule)
    opened = replace(record, check_at=deadline(record, ledger.settings))
    ledger.put(opened)
    ledger.events.append(ConnectionEvent("connectionLogin", opened))
    return opened


def close_record(ledger: Ledger, record: Connection, reason: Reason, now: int, rule: Rule) -> None:
    """End an open record; after a loss or a guessed end its grace begins."""
    now = ledger.not_before(record.opened_at, now)
    has_grace = reason not in (Reason.LOGOUT, Reason.SUPERSEDED) and ledger.settings.grace_ms > 0
    check_at = now + ledger.settings.grace_ms if has_grace else None
    ended = replace(record, logout_time=now, reason=reason, check_at=check_at, ended_by=rule)
    ledger.put(ended)
    ledger.events.append(ConnectionEvent("connectionLogout", ended))
