"""The readers' side of the store: what the commands show. It makes, migrates and writes nothing."""

import fnmatch
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from mqtt_presence.errors import StoreError
from mqtt_presence.protocol.times import LATEST
from mqtt_presence.rules.model import Connection, Key, State, UserId, UserPresence
from mqtt_presence.store.database import (
    MIGRATIONS,
    connect,
    interrupt_after,
    is_postgresql,
    open_connection,
    store_errors,
)
from mqtt_presence.store.rows import (
    CONNECTION_COLUMNS,
    USER_COLUMNS,
    VERSION_FLOOR,
    to_connection,
    to_presence,
)

_PAGE = 500


class Reader:
    """Looks at a database that the bridge keeps, and may be using right now.

    Args:
        url: see `database.connect`.
        patience_s: how long all of it together may take, seconds; None: as long as it takes.

    Raises:
        ConfigError: it is no such URL, or there is no such file.

    """

    def __init__(self, url: str, *, patience_s: float | None = None) -> None:
        self._database = connect(url, readonly=True, patience_s=patience_s)
        self._patience_s = patience_s
        self._is_sqlite = not is_postgresql(self._database)
        self._mark = "?" if self._is_sqlite else "%s"

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            StoreError: it cannot be opened, or its schema is not the one that we know.

        """
        try:
            with store_errors("open the database"):
                open_connection(self._database)
                if self._is_sqlite:
                    self._database.execute_sql("PRAGMA query_only = ON")
                    if self._patience_s is not None:
                        interrupt_after(self._database, self._patience_s)
            self._require_our_schema()
        except StoreError as error:
            self._database.close()
            if "readonly database" not in str(error):
                raise
            # Whoever reads a database with a write-ahead log says so in a file beside it.
            advice = "even to read, SQLite must write beside the file: copy it to a directory where it may"
            raise StoreError(f"{error}; {advice}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    # What is shown.

    def users(self, state: State | None = None) -> Iterator[UserPresence]:
        """Read the users, online ones first, then idle ones; in each state by name; without connections.

        The users are read in pages, each as of its own moment: a reader that is slow to show them keeps
        no transaction open. A user whose state changes meanwhile may come twice, or be left out.

        Args:
            state: only users in this state. Users that are online or idle are found by the index of live
                connections, so that offline ones cost nothing.

        """
        if state is None:
            for each in (State.ONLINE, State.IDLE, State.OFFLINE):
                yield from self._users_by_name(each)
        elif state is State.OFFLINE:
            yield from self._users_by_name(state)
        else:
            for user_ids in self._user_pages("c.live"):
                among = ",".join([self._mark] * len(user_ids))
                rows = self._select(
                    f"SELECT {USER_COLUMNS} FROM users u "
                    f"WHERE u.user_id IN ({among}) AND u.state = {self._mark} ORDER BY u.user_id",
                    [*user_ids, state.value],
                )
                for row in rows:
                    yield to_presence(row, {}, {})

    def has_user(self, user_id: str) -> bool:
        """Tell whether there is anything about a user."""
        return bool(self.known_users([UserId(user_id)]))

    def known_users(self, user_ids: Sequence[UserId]) -> set[UserId]:
        """Return those of the users of which there is a row or a record."""
        return self._those_with(
            user_ids,
            "EXISTS (SELECT 1 FROM user_states u WHERE u.user_id = k.column1) OR EXISTS "
            "(SELECT 1 FROM connection_records c WHERE c.user_id = k.column1)",
        )

    def matching_names(self, pattern: str) -> Iterator[UserId]:
        """Find the names of users that match a pattern of ``*``, ``?`` and ``[…]``, in pages."""
        matches = re.compile(fnmatch.translate(pattern)).match
        after = ""
        while True:
            rows = self._select(
                f"SELECT u.user_id FROM user_states u WHERE u.user_id > {self._mark} "
                f"ORDER BY u.user_id LIMIT {_PAGE}",
                [after],
            )
            yield from (UserId(row[0]) for row in rows if matches(row[0]))
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def history(self, user_id: str, *, limit: int, since: int | None = None) -> Iterator[Connection]:
        """Read a user's connections, the newest login first, in pages.

        Connections of which only the end is known (rule E1) are left out, because they have no login time.

        Args:
            user_id: the user.
            limit: the greatest number of connections.
            since: only connections that were open at this time or later, epoch milliseconds.

        """
        before = None
        while limit > 0:
            size = min(limit, _PAGE)
            page = self.connections_page(user_id, since=since, until=None, before=before, limit=size)
            for number, record in page:
                before = (record.login_time or 0, number)
                yield record
            if len(page) < size:
                return
            limit -= size

    # Pages, for the web: by keyset, so that a page costs what is on it, wherever it is.

    def users_page(self, *, after: str | None, limit: int, containing: str | None) -> list[UserPresence]:
        """Read users in the order of their names; without their connections.

        Args:
            after: those that come after this name.
            limit: how many at most.
            containing: only those whose name has this in it, ASCII letters large or small.

        """
        where, parameters = ["u.user_id > " + self._mark], [after or ""]
        if containing is not None:
            escaped = re.sub(r"([\\%_])", r"\\\1", containing)
            where.append(f"LOWER(u.user_id) LIKE LOWER({self._mark}) ESCAPE '\\'")
            parameters.append(f"%{escaped}%")
        rows = self._select(
            f"SELECT {USER_COLUMNS} FROM users u WHERE {' AND '.join(where)} "
            f"ORDER BY u.user_id LIMIT {int(limit)}",
            parameters,
        )
        return [to_presence(row, {}, {}) for row in rows]

    def connections_page(
        self,
        user_id: str,
        *,
        since: int | None,
        until: int | None,
        before: tuple[int, int] | None,
        limit: int,
    ) -> list[tuple[int, Connection]]:
        """Read a user's connections, the newest first, each with its row's id.

        What is known only by its end (contract E1) is left out: nobody knows when it began.

        Args:
            user_id: whose.
            since: only those that were there at this time or later, epoch milliseconds.
            until: only those that began then or earlier.
            before: (login time, id) of the last one on the page before.
            limit: how many at most.

        """
        where = [f"c.user_id = {self._mark}", f"c.login_time <= {self._mark}"]
        parameters: list[Any] = [user_id, LATEST if until is None else until]
        if since is not None:
            where.append(f"(c.logout_time IS NULL OR c.logout_time >= {self._mark})")
            parameters.append(since)
        if before is not None:
            where.append(f"(c.login_time, c.id) < ({self._mark}, {self._mark})")
            parameters += before
        return self._numbered(" AND ".join(where), "c.login_time DESC, c.id DESC", parameters, limit)

    def open_page(self, *, after: tuple[str, str, int] | None, limit: int) -> list[tuple[int, Connection]]:
        """Read the open connections of all users, in the order of users and clients, each with its row's id.

        Args:
            after: (user, client, id) of the last one on the page before.
            limit: how many at most.

        """
        return self._numbered(
            "c.live AND c.logout_time IS NULL "
            f"AND (c.user_id, c.client_id, c.id) > ({self._mark}, {self._mark}, {self._mark})",
            "c.user_id, c.client_id, c.id",
            after or ("", "", 0),
            limit,
        )

    def ended_page(self, *, before: tuple[int, int] | None, limit: int) -> list[tuple[int, Connection]]:
        """Read the ended connections of all users, the last end first, each with its row's id.

        Args:
            before: (logout time, id) of the last one on the page before.
            limit: how many at most.

        """
        return self._numbered(
            f"c.logout_time IS NOT NULL AND c.login_time IS NOT NULL "
            f"AND (c.logout_time, c.id) < ({self._mark}, {self._mark})",
            "c.logout_time DESC, c.id DESC",
            before or (LATEST + 1, 0),
            limit,
        )

    def has_tombstone(self, user_id: str) -> bool:
        """Tell whether the retained status of a forgotten user is still to be cleared."""
        return bool(self.uncleared([UserId(user_id)]))

    def uncleared(self, user_ids: Sequence[UserId]) -> set[UserId]:
        """Return the forgotten users among these whose retained status is still to be cleared."""
        return self._those_with(
            user_ids,
            "EXISTS (SELECT 1 FROM tombstones t WHERE t.user_id = k.column1 AND t.buried_at IS NULL) "
            "AND NOT EXISTS (SELECT 1 FROM user_states u WHERE u.user_id = k.column1)",
        )

    def open_connections(self) -> Iterator[dict[UserId, list[Connection]]]:
        """Read all connections that have not ended, by user, a page of users at a time."""
        for user_ids in self._user_pages("c.live AND c.logout_time IS NULL"):
            page: dict[UserId, list[Connection]] = {user_id: [] for user_id in user_ids}
            for record in self._live_of(user_ids, "AND c.logout_time IS NULL"):
                page[record.user_id].append(record)
            yield page

    # Whole, for comparing: users with their live connections, both of one moment.

    def presences(self, user_ids: Sequence[UserId]) -> dict[UserId, UserPresence]:
        """Read some; `status` is None where there is no row."""
        with self._one_moment():
            return self._presences(user_ids)

    def presences_page(self, *, after: str, limit: int) -> list[UserPresence]:
        """Read users in the order of their names.

        Args:
            after: those that come after this name.
            limit: how many at most.

        """
        with self._one_moment():
            rows = self._select(
                f"SELECT u.user_id FROM user_states u WHERE u.user_id > {self._mark} "
                f"ORDER BY u.user_id LIMIT {int(limit)}",
                [after],
            )
            return list(self._presences([UserId(row[0]) for row in rows]).values())

    def inconsistent_users(self, among: Sequence[UserId] | None = None) -> set[UserId]:
        """Return the users whose row contradicts itself, and those with live connections but no row.

        Args:
            among: only of these users, which costs in proportion to them; None: of all.

        """
        if among is not None and not among:
            return set()
        users, records = "user_states u", "connection_records c"
        of_user = of_record = ""
        if among is not None:
            users, records = (f"{self._keys(among)} CROSS JOIN {table}" for table in (users, records))
            of_user, of_record = (f"{name}.user_id = k.column1 AND" for name in ("u", "c"))
        contradictory = self._select(
            f"SELECT u.user_id FROM {users} WHERE {of_user} (u.online <> (u.state <> 'offline') "
            "OR (u.idle IS NULL) <> (u.state = 'offline') OR u.idle <> (u.state = 'idle'))",
            among or [],
        )
        rowless = self._select(
            f"SELECT DISTINCT c.user_id FROM {records} WHERE {of_record} c.live "
            "AND NOT EXISTS (SELECT 1 FROM user_states u WHERE u.user_id = c.user_id)",
            among or [],
        )
        return {UserId(row[0]) for row in (*contradictory, *rowless)}

    # How.

    @contextmanager
    def _one_moment(self) -> Iterator[None]:
        """See nothing of what is committed meanwhile; nobody waits for us, nor we for anybody."""
        how = {} if self._is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with store_errors("read the database"), self._database.atomic(**how):
            yield

    def _presences(self, user_ids: Sequence[UserId]) -> dict[UserId, UserPresence]:
        if not user_ids:
            return {}
        among = f"IN ({','.join([self._mark] * len(user_ids))})"
        connections: dict[UserId, dict[Key, Connection]] = {user_id: {} for user_id in user_ids}
        for record in self._live_of(user_ids):
            connections[record.user_id][record.client_id, record.connection_id] = record
        rows = self._select(f"SELECT {USER_COLUMNS} FROM user_states u WHERE u.user_id {among}", user_ids)
        kept = {row[0]: to_presence(row, connections[row[0]], {}) for row in rows}
        floor = self._select(f"SELECT b.value FROM bridge b WHERE b.name = {self._mark}", [VERSION_FLOOR])
        version = int(floor[0][0]) if floor else 0
        return {
            user_id: kept.get(user_id)
            or UserPresence(user_id=user_id, version=version, connections=connections[user_id])
            for user_id in user_ids
        }

    def _those_with(self, user_ids: Sequence[UserId], condition: str) -> set[UserId]:
        """Return the users k that meet a condition."""
        found: set[UserId] = set()
        for start in range(0, len(user_ids), _PAGE):
            page = user_ids[start : start + _PAGE]
            sql = f"SELECT k.column1 FROM {self._keys(page)} WHERE {condition}"
            found.update(UserId(row[0]) for row in self._select(sql, page))
        return found

    def _users_by_name(self, state: State) -> Iterator[UserPresence]:
        """Walk through all users, and read those in one state."""
        after = ""
        while True:
            rows = self._select(
                f"SELECT {USER_COLUMNS} FROM users u WHERE u.user_id > {self._mark} "
                f"AND u.state = {self._mark} ORDER BY u.user_id LIMIT {_PAGE}",
                [after, state.value],
            )
            for row in rows:
                yield to_presence(row, {}, {})
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def _user_pages(self, condition: str) -> Iterator[list[UserId]]:
        """Walk through the users that have connection records c of this condition, in pages of names."""
        after = ""
        while True:
            rows = self._select(
                f"SELECT DISTINCT c.user_id FROM connection_records c WHERE {condition} "
                f"AND c.user_id > {self._mark} ORDER BY c.user_id LIMIT {_PAGE}",
                [after],
            )
            if rows:
                yield [UserId(row[0]) for row in rows]
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def _live_of(self, user_ids: Sequence[UserId], condition: str = "") -> Iterator[Connection]:
        """Read the live connections c of these users."""
        rows = self._select(
            f"SELECT {CONNECTION_COLUMNS} FROM {self._keys(user_ids)} CROSS JOIN connections c "
            f"WHERE c.live AND c.user_id = k.column1 {condition}",
            user_ids,
        )
        return map(to_connection, rows)

    def _keys(self, keys: Sequence[str]) -> str:
        """Write a table k of as many parameters.

        Joined with, it has PostgreSQL look for each by an index; with `IN` it reads the whole table, once it
        knows that one of them has very many rows.
        """
        return f"(VALUES {','.join([f'({self._mark})'] * len(keys))}) AS k"

    def _numbered(
        self, where: str, order: str, parameters: Sequence[Any], limit: int
    ) -> list[tuple[int, Connection]]:
        rows = self._select(
            f"SELECT {CONNECTION_COLUMNS}, c.id FROM connections c "
            f"WHERE {where} ORDER BY {order} LIMIT {int(limit)}",
            parameters,
        )
        return [(row[-1], to_connection(row)) for row in rows]

    def _select(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        with self._reading():
            rows: list[Any] = self._database.execute_sql(sql, parameters).fetchall()
            return rows

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Read in a transaction that says it only reads: a pooler may give the session to a writer next."""
        with store_errors("read the database"):
            if self._is_sqlite or self._database.in_transaction():
                yield
            else:
                with self._database.atomic():
                    yield

    def _require_our_schema(self) -> None:
        with self._reading():
            if not self._database.table_exists("schema_migration"):
                raise StoreError("the database is none of mqtt-presence, or the bridge has never run on it")
        applied = {row[0] for row in self._select("SELECT m.name FROM schema_migration m", [])}
        ours = {path.stem for path in MIGRATIONS.glob("[0-9]*.py")}
        if applied - ours:
            raise StoreError("the database was made by a newer mqtt-presence: upgrade this one")
        if ours - applied:
            raise StoreError(
                "the database was made by an older mqtt-presence: start the bridge once to update it"
            )
