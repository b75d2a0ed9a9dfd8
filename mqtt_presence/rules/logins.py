"""Logins (L1 to L4)."""

from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mqtt_presence.rules.capacity import refuses_new_connection, refuses_reopening, yields_to
from mqtt_presence.rules.deadlines import deadline
from mqtt_presence.rules.events import Login
from mqtt_presence.rules.ledger import Ledger
from mqtt_presence.rules.model import BROKER, NO_META, Connection, Reason, Rule
from mqtt_presence.rules.transitions import close_record, may_reopen, new_record, open_record, reopen_record

T = TypeVar("T", int, str)


class _Place(Struct, frozen=True, gc=False):
    """The place of a login among the logins of its client (L4)."""

    order: int
    """The `login_order` of its record."""
    time: int | None
    """The `client_time` of its record."""
    is_outdated: bool = False
    """Whether a newer connection of the client is known."""


def handle_login(ledger: Ledger, login: Login) -> None:
    """Apply L1, L2, L3 or L4."""
    record = _find(ledger, login)
    if refuses_new_connection(ledger, login) if record is None else refuses_reopening(ledger, record):
        return
    ledger.see(login.now)
    if record is None:
        _register(ledger, new_record(login), login)
    elif record.login_order is None:  # Opened by activity (A2), or known by its end only (E1).
        _register(ledger, record, login)
    elif record.is_open:
        ledger.put(_refreshed(ledger, record, login))  # L2
    elif may_reopen(ledger, record):
        reopen_record(ledger, _refreshed(ledger, record, login), login.now, Rule.L3)  # after a guessed end
    else:
        ledger.ignored.append("login_after_end")  # L3


def _find(ledger: Ledger, login: Login) -> Connection | None:
    if login.connection_id is not None:
        return ledger.connections.get((login.client_id, login.connection_id))
    # L2: both the login and the client's open record lack a connection id of the client.
    of_client = ledger.open_of(login.client_id)
    return next((c for c in of_client if not c.client_named and c.origin != BROKER), None)


def _register(ledger: Ledger, record: Connection, login: Login) -> None:
    """Apply the first login of a record: L1 or L4, or the late login of A2 and E1."""
    place = _place(ledger, record, login)
    if place.order > ledger.latest_login.get(login.client_id, 0):
        ledger.latest_login[login.client_id] = place.order
        ledger.latest_login_time.pop(login.client_id, None)
        if place.time is not None:
            ledger.latest_login_time[login.client_id] = place.time
    # If the end arrived before the login, the connection has zero length.
    login_time = record.login_time if record.login_time is not None else record.logout_time
    record = replace(
        _refreshed(ledger, record, login),
        login_order=place.order,
        login_time=login.now if login_time is None else login_time,
        client_time=place.time,
    )
    ledger.save_last_login(record)
    ledger.publish(login.now)
    if not record.is_open:
        _l3_login_after_end(ledger, record, login)
    elif place.is_outdated:
        _l4_keep_as_superseded(ledger, record, login)
    else:
        _l1_open(ledger, record, login)


def _l1_open(ledger: Ledger, record: Connection, login: Login) -> None:
    """Open the record, and end the client's other connections and their grace."""
    for other in ledger.live_of(login.client_id):
        if other.connection_id == record.connection_id:
            continue
        if not other.is_open:
            ledger.put(replace(other, check_at=None))
        elif other.login_order is not None or yields_to(other, login):
            close_record(ledger, other, Reason.SUPERSEDED, login.now, Rule.L1)
    if record.opened_at is None:
        open_record(ledger, record, Rule.L1)
    else:
        ledger.put(record)


def _l3_login_after_end(ledger: Ledger, record: Connection, login: Login) -> None:
    """Fill in a record whose end arrived first; a guessed end is taken back."""
    if record.client_time is not None:
        _supersede_older(ledger, login, record.client_time)
    if may_reopen(ledger, record):
        reopen_record(ledger, record, login.now, Rule.L3)
    else:
        ledger.put(record)
        ledger.ignored.append("login_after_end")


def _l4_keep_as_superseded(ledger: Ledger, record: Connection, login: Login) -> None:
    """Keep the record as ended; a connection that never opened has no event."""
    if record.opened_at is None:
        ledger.put(replace(record, logout_time=login.now, reason=Reason.SUPERSEDED, ended_by=Rule.L4))
    else:
        close_record(ledger, record, Reason.SUPERSEDED, login.now, Rule.L4)


def _supersede_older(ledger: Ledger, login: Login, time: int) -> None:
    """Apply D12: end the open connections that this login would have ended if it had come in time."""
    for other in ledger.open_of(login.client_id):
        began = other.login_order if other.client_time is None else other.client_time
        if began is not None and began < time:
            close_record(ledger, other, Reason.SUPERSEDED, login.now, Rule.D12)


def _place(ledger: Ledger, record: Connection, login: Login) -> _Place:
    """Find the place of a login among those of its client (L4)."""
    latest = ledger.latest_login.get(login.client_id, 0)
    latest_time = ledger.latest_login_time.get(login.client_id)
    time = None if login.time is None else ledger.settings.trusted(login.time, login.now)
    if not record.is_open and time != login.time:
        time = None  # The receipt of a login after its own end proves nothing.
    latest_possible = max(login.now, ledger.present or 0) + ledger.settings.clock_tolerance_ms
    if latest_time is not None and latest_time > latest_possible:
        # The clock was set back. Until the latest login's time has come, the order of arrival decides.
        if record.is_open:
            return _Place(latest, None)
    elif time is not None and latest_time is not None and time < latest_time:
        return _Place(time, time, is_outdated=True)
    elif record.is_open and (time is None or latest_time is None) and _is_late(ledger, login, latest):
        return _Place(min(login.now if time is None else time, latest - 1), time, is_outdated=True)
    elif time is not None and (time > latest or time == latest == latest_time):
        return _Place(time, time)
    elif record.is_open or (time is not None and latest_time is not None):
        return _Place(max(login.now if time is None else time, latest + 1), time)
    # A login after its own end, or a repeat: no evidence makes it newer than the latest.
    first_seen = record.login_time if record.login_time is not None else record.logout_time
    order = time if time is not None else first_seen if first_seen is not None else login.now
    return _Place(min(order, latest or order), None)


def _is_late(ledger: Ledger, login: Login, latest: int) -> bool:
    """Return whether a later login of the client was processed before, by another bridge (D4)."""
    if ledger.is_late(latest, login.now):
        return True
    return any(
        other.login_order is not None
        and other.login_time is not None
        and other.connection_id != login.connection_id
        and ledger.is_late(other.login_time, login.now)
        for other in ledger.open_of(login.client_id)
    )


def _refreshed(ledger: Ledger, record: Connection, login: Login) -> Connection:
    """Return the record with the fields that a login mentions (L2)."""
    fresh = replace(
        record,
        user_agent=_mentioned(login.user_agent, record.user_agent),
        ip_addr=login.ip_addr if login.ip_addr is not None else record.ip_addr,
        idle_threshold_ms=_mentioned(login.idle_threshold_ms, record.idle_threshold_ms),
        timeout_ms=_mentioned(login.timeout_ms, record.timeout_ms),
        announce=login.announce if login.announce is not None else record.announce,
        meta=_mentioned("" if login.meta == NO_META else login.meta, record.meta),
        last_seen=max(record.last_seen, login.now),
        network_id=login.network_id if login.network_id is not None else record.network_id,
        cause=None if record.is_open else record.cause,
    )
    last = ledger.status.last_login
    if last is not None and (last.order, last.date) == (fresh.login_order, fresh.login_time):
        ledger.save_last_login(fresh)
    if fresh.is_open and fresh.opened_at is not None:
        return replace(fresh, check_at=deadline(fresh, ledger.settings))
    return fresh


def _mentioned(new: T | None, known: T | None) -> T | None:
    """Return the login's value, else the known one; an empty value clears the field."""
    return known if new is None else new or None
