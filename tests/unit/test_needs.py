"""The records that the rules need of a store, event by event."""

from typing import Any

import pytest

from mqtt_presence.rules import needs
from mqtt_presence.rules.events import Activity, CheckDeadlines, End, Event, Login, NetworkClosed
from mqtt_presence.rules.model import Cause, Connection, Reason

NOW = 1_000_000
IDENTITY: dict[str, Any] = {"user_id": "alice", "client_id": "phone", "now": NOW}


def record(connection_id: str = "c1", **fields: Any) -> Connection:
    fields = {"last_seen": NOW, "login_time": NOW, "login_order": NOW} | fields
    return Connection(user_id="alice", client_id="phone", connection_id=connection_id, **fields)


def login(connection_id: str | None = "c1") -> Login:
    return Login(**IDENTITY, connection_id=connection_id)


def activity(connection_id: str | None = "c1") -> Activity:
    return Activity(**IDENTITY, connection_id=connection_id)


def end(connection_id: str | None = "c1") -> End:
    return End(**IDENTITY, connection_id=connection_id, reason=Reason.LOST)


def closed() -> NetworkClosed:
    return NetworkClosed(**IDENTITY, network_id=1, cause=Cause.CLOSED, reason=Reason.LOST)


OPEN = record()
IN_GRACE = record(logout_time=NOW, reason=Reason.LOST, check_at=NOW + 9)
LOGGED_OUT = record(logout_time=NOW, reason=Reason.LOGOUT)
GUESSED = record(logout_time=NOW, reason=Reason.TIMEOUT)
WITHOUT_LOGIN = record(login_order=None)
GUESSED_WITHOUT_LOGIN = record(login_order=None, logout_time=NOW, reason=Reason.UNCONFIRMED)


def records_of(*records: Connection) -> dict[str, dict[Any, Connection]]:
    return {"alice": {(r.client_id, r.connection_id): r for r in records}}


@pytest.mark.parametrize(("event", "records", "is_left"), [
    (activity(), [OPEN], False),
    (activity(), [IN_GRACE], True),
    (activity(), [], True),
    (activity("c2"), [OPEN], True),
    (activity(None), [OPEN], True),
    (login(), [OPEN], True),
    (end(), [OPEN], True),
    (closed(), [OPEN], True),
    (CheckDeadlines(user_id="alice", now=NOW), [OPEN], True),
])  # fmt: skip
def test_only_activity_of_open_connections_needs_nothing_else(
    event: Event, records: list[Connection], *, is_left: bool
) -> None:
    """An activity of an open connection is left out, and a user without other events with it."""
    rest = needs.beyond_live({"alice": [event]}, records_of(*records))
    assert rest == ({"alice": [event]} if is_left else {})


def test_the_other_events_stay_in_their_order() -> None:
    """Of several events of a user, only the activities of open connections are left out."""
    events = [login("c2"), activity(), end("c3"), activity("c3")]
    rest = needs.beyond_live({"alice": events, "bob": [activity()]}, records_of(OPEN) | {"bob": {}})
    assert rest == {"alice": [login("c2"), end("c3"), activity("c3")], "bob": [activity()]}


def test_a_record_is_needed_if_a_message_names_it_and_it_is_not_live() -> None:
    """Reports of the broker, messages without an id and messages of live records name none."""
    events = {"alice": [login("c1"), end("c2"), activity("c3"), login(None), end(None), closed()]}
    assert needs.ended_records(events, records_of(OPEN)) == {
        ("alice", "phone", "c2"), ("alice", "phone", "c3")
    }  # fmt: skip


def test_records_of_two_users_are_not_mixed_up() -> None:
    """The same client and connection ids of another user are another record."""
    bobs = Login(user_id="bob", client_id="phone", now=NOW, connection_id="c1")
    live = records_of(OPEN) | {"bob": {}}
    assert needs.ended_records({"alice": [login()], "bob": [bobs]}, live) == {("bob", "phone", "c1")}


@pytest.mark.parametrize(("event", "clients"), [
    (closed(), {("alice", "phone")}),
    (end(), set()),
    (login(), set()),
])  # fmt: skip
def test_only_a_closed_network_connection_needs_the_latest_record(event: Event, clients: set[Any]) -> None:
    """The broker's report names no connection id, so the record may have ended already (G1)."""
    assert needs.latest_records({"alice": [event]}) == clients


@pytest.mark.parametrize(("event", "records", "is_needed"), [
    (login(), [OPEN], False),
    (login(), [LOGGED_OUT], False),
    (login(), [], True),
    (login(), [WITHOUT_LOGIN], True),
    (login(), [GUESSED], True),
    (login(), [GUESSED_WITHOUT_LOGIN], True),
    (login(None), [OPEN], True),
    (login("c2"), [OPEN], True),
    (activity(), [OPEN], False),
    (activity(), [], False),
    (activity(), [LOGGED_OUT], False),
    (activity(), [GUESSED], True),
    (activity(None), [OPEN], False),
    (end(), [], False),
    (end(), [OPEN], False),
    (closed(), [OPEN], False),
])  # fmt: skip
def test_latest_login_is_needed_to_place_a_login_or_to_reopen_a_record(
    event: Event, records: list[Connection], *, is_needed: bool
) -> None:
    """The first login of a record is compared with it (L1, L4), and so is a guessed end (L3, A3)."""
    found = needs.latest_logins({"alice": [event]}, records_of(*records))
    assert found == ({("alice", "phone")} if is_needed else set())


def test_heartbeats_need_the_live_records_of_their_clients() -> None:
    """Each client once, however many heartbeats it sent."""
    tablet = Activity(user_id="bob", client_id="tablet", now=NOW, connection_id="c1")
    assert needs.clients_of({"alice": [activity(), activity("c2")], "bob": [tablet]}) == {
        ("alice", "phone"), ("bob", "tablet")
    }  # fmt: skip
