"""The readers' side of the store: what the commands show. It makes, migrates and writes nothing."""

import heapq
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, takewhile
from types import TracebackType
from typing import Any, Self

from mqtt_presence.errors import StoreError
from mqtt_presence.model import Connection, Key, State, UserId, UserPresence
from mqtt_presence.store.database import MIGRATIONS, connect, interrupt_after, is_postgresql, said_plainly
from mqtt_presence.store.rows import (
    CONNECTION_COLUMNS,
    USER_COLUMNS,
    VERSION_FLOOR,
    to_connection,
    to_presence,
)
from mqtt_presence.times import LATEST

_PAGE = 500
_HERE_FIRST = "CASE u.state WHEN 'online' THEN 0 WHEN 'idle' THEN 1 ELSE 2 END"


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
            with said_plainly("open the database"):
                self._database.connect()
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

    def users(self, state: State | None = None) -> list[UserPresence]:
        """Read the users, whoever is here first, then by name; without their connections.

        Args:
            state: only those in this state; who is not offline is found by the index of live connections.

        """
        where, parameters = "", []
        if state is not None:
            where, parameters = f"WHERE u.state = {self._mark}", [state.value]
            if state is not State.OFFLINE:
                where += " AND u.user_id IN (SELECT c.user_id FROM connection_records c WHERE c.live)"
        rows = self._select(
            f"SELECT {USER_COLUMNS} FROM users u {where} ORDER BY {_HERE_FIRST}, u.user_id", parameters
        )
        return [to_presence(row, {}, {}) for row in rows]

    def knows(self, user_id: str) -> bool:
        """Tell whether there is anything about a user."""
        return bool(
            self._select(f"SELECT 1 FROM users u WHERE u.user_id = {self._mark}", [user_id])
            or self._select(
                f"SELECT 1 FROM connection_records c WHERE c.user_id = {self._mark} LIMIT 1", [user_id]
            )
        )

    def history(self, user_id: str, *, limit: int, since: int | None = None) -> list[Connection]:
        """Read a user's connections, the newest first.

        There is an index for the newest of a client, not of a user: so the newest of each client are merged,
        at the cost of one seek for each client, not of all there ever was. What is known only by its end
        (contract E1) is left out: nobody knows when it began.

        Args:
            user_id: whose.
            limit: how many at most.
            since: only those that were there at this time or later, epoch milliseconds.

        """
        by_client = [
            self._of_client(user_id, client_id, limit, since) for client_id in self._clients(user_id)
        ]
        return list(islice(heapq.merge(*by_client, key=_began, reverse=True), limit))

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
        return bool(
            self._select(
                f"SELECT 1 FROM tombstones t WHERE t.user_id = {self._mark} AND t.buried_at IS NULL",
                [user_id],
            )
            and not self._select(f"SELECT 1 FROM users u WHERE u.user_id = {self._mark}", [user_id])
        )

    def open_connections(self) -> Iterator[dict[UserId, list[Connection]]]:
        """Read all connections that have not ended, by user, a page of users at a time."""
        after = ""
        while True:
            users = self._select(
                "SELECT DISTINCT c.user_id FROM connections c WHERE c.live AND c.logout_time IS NULL "
                f"AND c.user_id > {self._mark} ORDER BY c.user_id LIMIT {_PAGE}",
                [after],
            )
            if not users:
                return
            after = users[-1][0]
            page: dict[UserId, list[Connection]] = {UserId(row[0]): [] for row in users}
            among = ",".join([self._mark] * len(page))
            for record in self._records(
                f"c.live AND c.logout_time IS NULL AND c.user_id IN ({among})", list(page)
            ):
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

    def odd(self) -> set[UserId]:
        """Tell whose row contradicts itself, and who has live connections but no row."""
        contradictory = self._select(
            "SELECT u.user_id FROM user_states u WHERE u.online <> (u.state <> 'offline') "
            "OR (u.idle IS NULL) <> (u.state = 'offline') OR u.idle <> (u.state = 'idle')",
            [],
        )
        rowless = self._select(
            "SELECT DISTINCT c.user_id FROM connection_records c WHERE c.live "
            "AND NOT EXISTS (SELECT 1 FROM user_states u WHERE u.user_id = c.user_id)",
            [],
        )
        return {UserId(row[0]) for row in (*contradictory, *rowless)}

    # How.

    @contextmanager
    def _one_moment(self) -> Iterator[None]:
        """See nothing of what is committed meanwhile; nobody waits for us, nor we for anybody."""
        how = {} if self._is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with said_plainly("read the database"), self._database.atomic(**how):
            yield

    def _presences(self, user_ids: Sequence[UserId]) -> dict[UserId, UserPresence]:
        if not user_ids:
            return {}
        among = f"IN ({','.join([self._mark] * len(user_ids))})"
        connections: dict[UserId, dict[Key, Connection]] = {user_id: {} for user_id in user_ids}
        for record in self._records(f"c.live AND c.user_id {among}", user_ids):
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

    def _clients(self, user_id: str) -> Iterator[str]:
        """Walk through a user's clients, from one to the next by the index."""
        after = ""
        while True:
            rows = self._select(
                "SELECT MIN(c.client_id) FROM connection_records c "
                f"WHERE c.user_id = {self._mark} AND c.client_id > {self._mark}",
                [user_id, after],
            )
            if rows[0][0] is None:
                return
            after = rows[0][0]
            yield after

    def _of_client(self, user_id: str, client_id: str, limit: int, since: int | None) -> Iterator[Connection]:
        """Read the newest connections of one client, and those few whose login has not come (contract A2)."""
        whose = f"c.user_id = {self._mark} AND c.client_id = {self._mark} AND c.login_order"
        unordered = self._records(
            f"{whose} IS NULL AND c.login_time IS NOT NULL ORDER BY c.login_time DESC LIMIT {int(limit)}",
            [user_id, client_id],
        )
        ordered = self._records(
            f"{whose} IS NOT NULL ORDER BY c.login_order DESC LIMIT {int(limit)}", [user_id, client_id]
        )
        merged = heapq.merge(ordered, unordered, key=_began, reverse=True)
        # The connections of one client follow one another: before the first that is too old, all are.
        return takewhile(lambda c: since is None or c.logout_time is None or c.logout_time >= since, merged)

    def _records(self, where: str, parameters: Sequence[Any]) -> Iterator[Connection]:
        sql = f"SELECT {CONNECTION_COLUMNS} FROM connections c WHERE {where}"
        return map(to_connection, self._select(sql, parameters))

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
        with said_plainly("read the database"):
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


def _began(record: Connection) -> int:
    return record.login_order or record.login_time or 0
