"""Loading: reads the users and records that events need, and locks them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import peewee

from mqtt_presence.rules import needs
from mqtt_presence.rules.events import Activity, Event
from mqtt_presence.rules.model import ActivityState, ClientId, Connection, Key, UserId, UserPresence
from mqtt_presence.store.jobs import Jobs
from mqtt_presence.store.rows import (
    ACTIVITY_COLUMNS,
    CONNECTION_COLUMNS,
    LIVE_COLUMNS,
    USER_COLUMNS,
    to_activity_state,
    to_connection,
    to_presence,
)

# Row locks in one order, whatever the collation of the database.
# A new user has no row to lock, so a placeholder is inserted. Of an existing user, ON CONFLICT locks the row,
# and changes nothing. One pass locks both, so there is one order of all users.
_LOCK_USERS = (
    "INSERT INTO user_states (user_id, state, online, connections, version) "
    "SELECT k.column1, '', FALSE, 0, 0 FROM {keys} ORDER BY k.column1 COLLATE \"C\" "
    "ON CONFLICT (user_id) DO UPDATE SET version = 0 WHERE FALSE RETURNING user_id"
)
_LIVE_OF_CLIENTS = (
    "CROSS JOIN connection_records r CROSS JOIN pulses p WHERE p.id = r.id AND r.live "
    "AND r.user_id = k.column1 AND r.client_id = k.column2"
)
_LOCK_RECORDS = ' ORDER BY r.user_id COLLATE "C", r.client_id COLLATE "C", r.id FOR UPDATE OF r, p'


class Loading(Jobs):
    """The first half of a transaction. It notes what it has loaded, for the second half.

    Rows are locked in one order, so that no two writers wait for each other: users by name, then their live
    connections by user, client and row id. Names sort by their code points, as in PostgreSQL's collation "C".
    Heartbeats lock connections alone, and wait for none.

    Args:
        database: the database, with a transaction begun.
        is_postgresql: whether the database is PostgreSQL, else SQLite.

    """

    def __init__(self, database: peewee.Database, *, is_postgresql: bool) -> None:
        super().__init__(database, is_postgresql=is_postgresql)
        #: The loaded records by key, with their row ids.
        self._loaded: dict[tuple[str, str, str], tuple[int, ActivityState]] = {}
        #: The users whose rows were loaded.
        self._known: set[str] = set()
        #: New users whose rows hold only a lock until they are saved; no other transaction ever sees these.
        self._placeholders: set[str] = set()

    def load_activity(
        self, beats: Mapping[UserId, Sequence[Activity]]
    ) -> dict[UserId, dict[Key, ActivityState]]:
        """Read the live connections that heartbeats need (`activity.settle_heartbeats`).

        On PostgreSQL they are locked, and a connection that another transaction has locked is left out: a
        transaction of heartbeats locks connections without their users, so it must not wait with such locks.
        For a heartbeat without a connection id, all connections of its client are left out then.
        """
        clients = sorted(needs.clients_of(beats))
        expected = self._live_ids(beats) if self._is_postgresql else {}
        rows = self._select_each(
            # From the tables: for a view SQLite would read all columns, and so the whole record.
            ACTIVITY_COLUMNS,
            f"{_LIVE_OF_CLIENTS}{self._locked(f'{_LOCK_RECORDS} SKIP LOCKED')}",
            clients,
        )
        found = {row[-1] for row in rows}
        incomplete = {client for client, ids in expected.items() if not ids <= found}
        live: dict[UserId, dict[Key, ActivityState]] = {user_id: {} for user_id in beats}
        for row in rows:
            if (row[0], row[1]) in incomplete:
                continue
            state = to_activity_state(row)
            self._loaded[row[0], row[1], row[2]] = row[-1], state
            live[row[0]][row[1], row[2]] = state
        return live

    def _live_ids(self, beats: Mapping[UserId, Sequence[Activity]]) -> dict[tuple[str, str], set[int]]:
        """Read the row ids of the live connections of clients whose heartbeats have no connection id."""
        nameless = {u: [b for b in of_user if b.connection_id is None] for u, of_user in beats.items()}
        ids: dict[tuple[str, str], set[int]] = {}
        for user_id, client_id, row_id in self._select_each(
            "r.user_id, r.client_id, r.id", _LIVE_OF_CLIENTS, sorted(needs.clients_of(nameless))
        ):
            ids.setdefault((user_id, client_id), set()).add(row_id)
        return ids

    def load(self, events: Mapping[UserId, Sequence[Event]]) -> dict[UserId, UserPresence]:
        """Read the users and records that the rules need to decide on events (`rules.needs`)."""
        user_ids = [(user_id,) for user_id in sorted(events)]
        # First, because this locks the users: no other bridge changes them from now on.
        users = self._users(user_ids)
        self._known.update(row[0] for row in users)
        records: dict[UserId, dict[Key, Connection]] = {user_id: {} for user_id in events}
        _sort_in(records, self._live_records(user_ids))
        events = needs.beyond_live(events, records)
        _sort_in(records, self._ended_records(needs.ended_records(events, records)))
        _sort_in(records, self._latest_records(needs.latest_records(events)))
        orders, times = self._latest_logins(needs.latest_logins(events, records))
        loaded = {
            row[0]: to_presence(row, records[row[0]], orders.get(row[0], {}), times.get(row[0], {}))
            for row in users
        }
        if len(loaded) < len(records):
            floor = self._version_floor()
            for user_id, of_user in records.items():
                if user_id not in loaded:
                    loaded[user_id] = UserPresence(
                        user_id=user_id,
                        version=floor,
                        connections=of_user,
                        latest_login=orders.get(user_id, {}),
                        latest_login_time=times.get(user_id, {}),
                    )
        return loaded

    def users_by_name(self, user_ids: Iterable[UserId]) -> dict[UserId, UserPresence]:
        """Read those of the users that exist, without their connections."""
        rows = self._select_each(
            USER_COLUMNS,
            "CROSS JOIN users u WHERE u.user_id = k.column1",
            [(user_id,) for user_id in sorted(user_ids)],
        )
        return {UserId(row[0]): to_presence(row, {}, {}) for row in rows}

    def known_users(self, user_ids: Iterable[UserId]) -> set[UserId]:
        """Return those of the users that exist."""
        keys = [(user_id,) for user_id in user_ids]
        rows = self._select_each("u.user_id", "CROSS JOIN user_states u WHERE u.user_id = k.column1", keys)
        return {UserId(row[0]) for row in rows}

    def _users(self, user_ids: Collection[tuple[str, ...]]) -> list[Any]:
        """Read the rows of users; on PostgreSQL, lock them first, new ones too."""
        if self._is_postgresql:
            self._placeholders.update(row[0] for row in self._batches.execute(_LOCK_USERS, user_ids))
        rows = self._select_each(
            USER_COLUMNS, "CROSS JOIN user_states u WHERE u.user_id = k.column1", user_ids
        )
        return [row for row in rows if row[0] not in self._placeholders]

    def _locked(self, clause: str) -> str:
        """Return the clause that locks rows; SQLite needs none, because it has one writer at a time."""
        return clause if self._is_postgresql else ""

    def _live_records(self, user_ids: Collection[tuple[str, ...]]) -> Iterable[Connection]:
        """Read the live records of users; on PostgreSQL, lock them, too: heartbeats lock no user."""
        return self._noted(
            self._select_each(
                LIVE_COLUMNS,
                "CROSS JOIN connection_records r CROSS JOIN pulses p WHERE p.id = r.id AND r.live "
                f"AND r.user_id = k.column1{self._locked(_LOCK_RECORDS)}",
                user_ids,
            )
        )

    def _ended_records(self, keys: Collection[needs.RecordKey]) -> Iterable[Connection]:
        return self._connections(
            "c.user_id = k.column1 AND c.client_id = k.column2 AND c.connection_id = k.column3", keys
        )

    def _latest_records(self, clients: Collection[needs.ClientKey]) -> Iterable[Connection]:
        return self._connections(
            "c.user_id = k.column1 AND c.client_id = k.column2 AND c.login_order = "
            "(SELECT MAX(n.login_order) FROM connection_records n "
            "WHERE n.user_id = k.column1 AND n.client_id = k.column2)",
            clients,
        )

    def _latest_logins(
        self, clients: Collection[needs.ClientKey]
    ) -> tuple[dict[UserId, dict[ClientId, int]], dict[UserId, dict[ClientId, int]]]:
        """Read the greatest `login_order` of clients, and the `client_time` of the same record."""
        # Both databases find MAX by one seek in the index.
        of_client = "FROM connection_records c WHERE c.user_id = k.column1 AND c.client_id = k.column2"
        greatest = f"(SELECT MAX(c.login_order) {of_client})"
        time_of_it = f"(SELECT MAX(c.client_time) {of_client} AND c.login_order = {greatest})"
        rows = self._select_each(f"k.column1, k.column2, {greatest}, {time_of_it}", "", clients)
        orders: dict[UserId, dict[ClientId, int]] = {}
        times: dict[UserId, dict[ClientId, int]] = {}
        for user_id, client_id, order, time in rows:
            if order is not None:
                orders.setdefault(user_id, {})[client_id] = order
            if time is not None:
                times.setdefault(user_id, {})[client_id] = time
        return orders, times

    def _connections(self, condition: str, keys: Collection[tuple[str, ...]]) -> Iterable[Connection]:
        """Read records c by keys k."""
        return self._noted(
            self._select_each(CONNECTION_COLUMNS, f"CROSS JOIN recent_connections c WHERE {condition}", keys)
        )

    def _noted(self, rows: Iterable[Any]) -> Iterable[Connection]:
        """Return the records in rows, and note them for `save`."""
        records = []
        for row in rows:
            record = to_connection(row)
            records.append(record)
            self._loaded[row[0], row[1], row[2]] = row[-1], record
        return records


def _sort_in(records: Mapping[UserId, dict[Key, Connection]], more: Iterable[Connection]) -> None:
    for record in more:
        records[record.user_id][record.client_id, record.connection_id] = record
