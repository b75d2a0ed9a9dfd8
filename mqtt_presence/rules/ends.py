"""Ends of connections: reported by the client (E1, E2), or by the broker (G1, G2)."""

from msgspec.structs import replace

from mqtt_presence.rules.capacity import refuses_new_record
from mqtt_presence.rules.events import End, NetworkClosed, NetworkReplaced
from mqtt_presence.rules.ledger import Ledger
from mqtt_presence.rules.model import GUESSED, Cause, Connection, ConnectionId, Reason, Rule
from mqtt_presence.rules.transitions import close_record


def handle_end(ledger: Ledger, end: End) -> None:
    """Apply E1 or E2."""
    if end.connection_id is None:
        _e2_end_open_record(ledger, end)
    else:
        _e1_end_named_record(ledger, end, end.connection_id)


def _e1_end_named_record(ledger: Ledger, end: End, connection_id: ConnectionId) -> None:
    record = ledger.connections.get((end.client_id, connection_id))
    if record is None:
        if not refuses_new_record(ledger):
            ledger.put(_ended_before_login(end, connection_id))
    elif record.is_open:
        ledger.see(end.now)
        record = replace(record, cause=end.cause or record.cause)
        close_record(ledger, record, end.reason, end.now, end.rule or Rule.E1)
    elif record.reason in GUESSED or record.ended_by_broker:
        ledger.put(replace(_corrected(record, end.reason, end.now, Rule.E1), ended_by_broker=False))
    else:
        ledger.ignored.append("end_after_end")


def _e2_end_open_record(ledger: Ledger, end: End) -> None:
    open_records = ledger.open_of(end.client_id)
    for record in open_records:
        ledger.see(end.now)
        close_record(ledger, record, end.reason, end.now, end.rule or Rule.E2)
    if not open_records:
        ledger.ignored.append("end_of_nothing")


def _ended_before_login(end: End, connection_id: ConnectionId) -> Connection:
    """Return the record of an unseen connection that has ended, so that a late login cannot revive it."""
    return Connection(
        user_id=end.user_id,
        client_id=end.client_id,
        connection_id=connection_id,
        last_seen=end.now,
        logout_time=end.now,
        reason=end.reason,
        ended_by=Rule.E1,
    )


def handle_network_closed(ledger: Ledger, closed: NetworkClosed) -> None:
    """Apply G1: end only the records that logged in over this network connection.

    Of the ended records, only that of the client's latest login changes: `needs` loads no other.
    """
    of_client = [record for record in ledger.connections.values() if record.client_id == closed.client_id]
    latest = max((record.login_order for record in of_client if record.login_order is not None), default=-1)
    for record in of_client:
        if record.network_id != closed.network_id or not (record.is_live or record.login_order == latest):
            continue
        if closed.reason is not None and record.is_open:
            ended = replace(record, cause=closed.cause, ended_by_broker=True)
            # A takeover ends a record only if another user has taken the client id.
            rule = Rule.G2 if closed.cause is Cause.TAKEOVER else Rule.G1
            close_record(ledger, ended, closed.reason, closed.now, rule)
        elif closed.reason is not None and record.reason in GUESSED:
            certain = _corrected(record, closed.reason, closed.now, Rule.G1)
            ledger.put(replace(certain, cause=closed.cause, ended_by_broker=True))
        elif record.cause is None:
            ledger.put(replace(record, cause=closed.cause))


def handle_network_replaced(ledger: Ledger, replaced: NetworkReplaced) -> None:
    """Apply G2: an end of the new network connection also ends the records of the one before."""
    for record in ledger.open_of(replaced.client_id):
        if record.network_id == replaced.network_id:
            ledger.put(replace(record, network_id=replaced.new_network_id))


def _corrected(record: Connection, reason: Reason, now: int, rule: Rule) -> Connection:
    """Return an ended record with the certain reason; a logout has no grace."""
    check_at = None if reason is Reason.LOGOUT else record.check_at
    return replace(record, reason=reason, check_at=check_at, corrected_by=rule, corrected_at=now)
