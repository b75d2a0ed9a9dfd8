"""Implicit connections: the broker's report opens a record for a client that sends no messages (I1, I2)."""

from msgspec.structs import replace

from mqtt_presence.rules.capacity import refuses_new_connection
from mqtt_presence.rules.deadlines import next_check
from mqtt_presence.rules.events import NetworkClaimed, NetworkOpened, ReportsLost
from mqtt_presence.rules.ledger import Ledger
from mqtt_presence.rules.model import BROKER, PROFILE, Connection, Reason, Rule
from mqtt_presence.rules.transitions import close_record, new_record, open_record


def handle_network_opened(ledger: Ledger, opened: NetworkOpened) -> None:
    """Apply I1: open a record, unless the client has one of this network connection."""
    of_client = ledger.open_of(opened.client_id)
    known = [record for record in of_client if _is_over(record, opened)]
    for record in known:
        _confirm(ledger, record, opened)
    if known or any((record.origin or "").startswith(PROFILE) for record in of_client):
        return
    if refuses_new_connection(ledger, opened):
        return
    ledger.see(opened.connected_at)
    for other in ledger.live_of(opened.client_id):
        if other.is_open:
            close_record(ledger, other, Reason.SUPERSEDED, opened.now, Rule.I1)
        else:
            ledger.put(replace(other, check_at=None))
    record = open_record(ledger, replace(new_record(opened), last_seen=opened.connected_at), Rule.I1)
    ledger.save_last_connect(record)


def _is_over(record: Connection, opened: NetworkOpened) -> bool:
    """Return whether an open record belongs to this network connection, not to the one before it (G2)."""
    if record.network_id not in (None, opened.network_id):
        return False
    if opened.is_listed and record.network_id is not None:
        return True
    return record.last_seen >= opened.connected_at


def _confirm(ledger: Ledger, record: Connection, opened: NetworkOpened) -> None:
    """Record that the broker knows the network connection of a record."""
    fresh = replace(
        record,
        network_id=opened.network_id,
        ip_addr=record.ip_addr if record.ip_addr is not None else opened.ip_addr,
        unconfirmed_since=None,
    )
    if fresh != record:
        ledger.put(replace(fresh, check_at=next_check(fresh, ledger.settings)))


def handle_network_claimed(ledger: Ledger, claimed: NetworkClaimed) -> None:
    """Apply I1: another user has logged in over the network connection."""
    for record in ledger.open_of(claimed.client_id):
        if record.origin == BROKER and record.network_id == claimed.network_id:
            close_record(ledger, record, Reason.SUPERSEDED, claimed.now, Rule.I1)


def handle_reports_lost(ledger: Ledger, lost: ReportsLost) -> None:
    """Apply I2: nobody knows whether these clients are still connected."""
    for record in [*ledger.connections.values()]:
        is_certain = record.origin != BROKER or record.last_seen >= lost.before
        if record.is_open and not is_certain and record.unconfirmed_since is None:
            marked = replace(record, unconfirmed_since=lost.now)
            ledger.put(replace(marked, check_at=next_check(marked, ledger.settings)))
