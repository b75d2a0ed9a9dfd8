"""The records that the rules need: each caller of `fold` loads these and no others.

Every event needs its user and the user's live records. Some events need more:

| rule | needs |
|---|---|
| L3, A3, E1 | the ended record that the event names |
| L1, L4 | the latest login of the client, for a record that has had no login |
| L3, A3 | the latest login of the client, for a record whose end is a guess |
| G1 | the client's record with the latest login, even if it has ended |
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from mqtt_presence.rules.events import Activity, Event, Login, Message, NetworkClosed
from mqtt_presence.rules.model import GUESSED, ClientId, Connection, ConnectionId, Key, UserId

Events: TypeAlias = Mapping[UserId, Sequence[Event]]
Records: TypeAlias = Mapping[UserId, Mapping[Key, Connection]]
ClientKey: TypeAlias = tuple[UserId, ClientId]
RecordKey: TypeAlias = tuple[UserId, ClientId, ConnectionId]


def clients_of(events: Mapping[UserId, Sequence[Activity]]) -> set[ClientKey]:
    """Return the clients whose live records heartbeats need (`activity.settle_heartbeats`)."""
    return {(user_id, event.client_id) for user_id, of_user in events.items() for event in of_user}


def beyond_live(events: Events, live: Records) -> Events:
    """Return the events that may need more than live records.

    Activities of open connections are left out: most events are such, and these need only their own record.
    """
    rest: dict[UserId, list[Event]] = {}
    for user_id, of_user in events.items():
        of_live = live[user_id]
        for event in of_user:
            if isinstance(event, Activity) and event.connection_id is not None:
                record = of_live.get((event.client_id, event.connection_id))
                if record is not None and record.logout_time is None:
                    continue
            rest.setdefault(user_id, []).append(event)
    return rest


def ended_records(events: Events, live: Records) -> set[RecordKey]:
    """Return the records that events name and that are not live: they have ended, or are unseen."""
    return {
        (user_id, event.client_id, event.connection_id)
        for user_id, of_user in events.items()
        for event in of_user
        if isinstance(event, Message)
        and event.connection_id is not None
        and (event.client_id, event.connection_id) not in live[user_id]
    }


def latest_records(events: Events) -> set[ClientKey]:
    """Return the clients whose record with the latest login is needed (G1)."""
    return {
        (user_id, event.client_id)
        for user_id, of_user in events.items()
        for event in of_user
        if isinstance(event, NetworkClosed)
    }


def latest_logins(events: Events, records: Records) -> set[ClientKey]:
    """Return the clients whose latest login is needed (L1, L3, L4, A3).

    Args:
        events: the events.
        records: the records that are loaded, those of `ended_records` included.

    """
    return {
        (user_id, event.client_id)
        for user_id, of_user in events.items()
        for event in of_user
        if isinstance(event, Message) and _needs_latest_login(event, records[user_id])
    }


def _needs_latest_login(event: Message, of_user: Mapping[Key, Connection]) -> bool:
    if event.connection_id is None:
        return isinstance(event, Login)
    record = of_user.get((event.client_id, event.connection_id))
    if record is None or record.login_order is None:
        return isinstance(event, Login)
    return record.reason in GUESSED
