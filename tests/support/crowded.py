"""Databases with many rows in each column: clients and records of one user, users, live connections."""

from tests.support.postgres import cursor

NOW = 1_800_000_000_000
_COLUMNS = (
    "user_id, client_id, connection_id, named, login_time, login_order, opened_at, announce, "
    "logout_time, reason, live, check_at"
)


class Crowd:
    """Fills a migrated, empty database by SQL, and gathers the planner's statistics.

    There are `size` clients of the user ``clients``, `size` ended connections of ``records``, `size` users
    ``user-0…`` of whom each tenth is online, and three open connections of ``records``.

    Args:
        url: of the database.
        size: how many rows there are in each column.

    """

    def __init__(self, url: str, size: int) -> None:
        self.is_postgresql = url.startswith("postgres")
        self._size = size
        with cursor(url) as self._cursor:
            self._connections("'clients'", "'page-' || i", size)
            self._connections("'records'", "'phone-' || (i % 20)", size)
            self._connections("'records'", "'now-' || i", 3, is_open=True)
            self._connections("'user-' || i", "'phone'", size)
            self._connections("'user-' || (i * 10)", "'live'", size // 10, is_open=True)
            self._execute(
                "INSERT INTO pulses (id, last_seen, heartbeats, reports) "
                "SELECT id, COALESCE(logout_time, login_time), FALSE, FALSE FROM connection_records"
            )
            for user, count, every in (
                ("'clients'", 1, 2),
                ("'records'", 1, 1),
                ("'user-' || i", size, 10),
            ):
                self._users(user, count, every)
        with cursor(url) as self._cursor:
            self._execute("ANALYZE")

    def _connections(self, user: str, client: str, count: int, *, is_open: bool = False) -> None:
        time = f"{NOW} - {self._size} + i"
        ended, reason, live, check_at = (
            ("NULL", "NULL", "TRUE", time) if is_open else (time, "'lost'", "FALSE", "NULL")
        )
        self._execute(
            f"INSERT INTO connection_records ({_COLUMNS}) SELECT {user}, {client}, 'c' || i, TRUE, {time}, "
            f"{time}, {time}, TRUE, {ended}, {reason}, {live}, {check_at} FROM {self._series(count)}"
        )  # fmt: skip

    def _users(self, user: str, count: int, every: int) -> None:
        is_here = f"i % {every} = 0 AND i > 0" if every > 1 else "i >= 0"
        self._execute(
            "INSERT INTO user_states (user_id, state, online, idle, since, connections, last_seen, version) "
            f"SELECT {user}, CASE WHEN {is_here} THEN 'online' ELSE 'offline' END, {is_here}, "
            f"CASE WHEN {is_here} THEN FALSE END, {NOW}, 1, {NOW}, 1 FROM {self._series(count)}"
        )

    def _series(self, count: int) -> str:
        numbers = (
            f"SELECT generate_series(0, {count - 1}) AS i"
            if self.is_postgresql
            else "WITH RECURSIVE n(i) AS "
            f"(SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1}) SELECT i FROM n"
        )
        return f"({numbers}) AS n"

    def _execute(self, sql: str) -> None:
        self._cursor.execute(sql)
