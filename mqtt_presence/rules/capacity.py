"""Limits on connections and records, checked before any effect: a refused message has none.

The client's next sign of life is a new attempt (A2).
"""

from mqtt_presence.rules.events import Activity, Login, NetworkOpened, Sighting
from mqtt_presence.rules.ledger import Ledger
from mqtt_presence.rules.model import BROKER, GUESSED, Connection

TOO_MANY_CONNECTIONS = "too_many_connections"
TOO_MANY_RECORDS = "too_many_records"
LIMITS = frozenset({TOO_MANY_CONNECTIONS, TOO_MANY_RECORDS})
"""The reasons in `Outcome.ignored` for messages that a limit refused."""


def refuses_new_connection(ledger: Ledger, event: Login | Activity | Sighting | NetworkOpened) -> bool:
    """Refuse an event whose connection, or whose record, exceeds a limit."""
    most = ledger.settings.max_connections
    if most is not None and ledger.live.total >= most:
        freed = any(_makes_room(event, c) for c in ledger.live_of(event.client_id))
        if ledger.live.total - freed >= most:
            ledger.ignored.append(TOO_MANY_CONNECTIONS)
            return True
    return refuses_new_record(ledger)


def _makes_room(event: Login | Activity | Sighting | NetworkOpened, record: Connection) -> bool:
    """Return whether a live record of the client ends by this event, or its grace does."""
    if isinstance(event, NetworkOpened):
        return True
    if record.is_open and record.origin == BROKER:
        return True
    if not isinstance(event, Login):
        return False
    return not record.is_open or record.login_order is not None or yields_to(record, event)


def refuses_reopening(ledger: Ledger, record: Connection) -> bool:
    """Refuse an event that would reopen a record (L3, A3) beyond the limit of connections."""
    if record.reason not in GUESSED:
        return False
    most = ledger.settings.max_connections
    if most is None or ledger.live.total - record.is_live < most:
        return False
    if any(c.login_order is not None for c in ledger.open_of(record.client_id)):
        return False  # This other connection ends if the record reopens.
    ledger.ignored.append(TOO_MANY_CONNECTIONS)
    return True


def refuses_new_record(ledger: Ledger) -> bool:
    """Refuse a record beyond the limit; otherwise count it."""
    if ledger.max_new_records is not None and ledger.new_records >= ledger.max_new_records:
        ledger.ignored.append(TOO_MANY_RECORDS)
        return True
    ledger.new_records += 1
    return False


def yields_to(record: Connection, login: Login) -> bool:
    """Return whether a connection without a login (A2) ends at this login of its client.

    A connection whose client named it waits for its own login. If this login has no `time`, the two could not
    be compared, so the order of arrival decides.
    """
    return login.time is None or not record.client_named
