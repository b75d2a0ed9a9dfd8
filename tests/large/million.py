"""Fills a database with records of two years: nine of ten are in the history, the others of the last days."""

import time
from typing import Any

from mqtt_presence.store import Store
from mqtt_presence.store.rows import HISTORY_LONGEST
from tests.support.postgres import cursor

DAY_MS = 86_400_000
NOW = 1_800_000_000_000
YEARS_MS = 730 * DAY_MS
_COLUMNS = (
    "user_id, client_id, connection_id, named, login_time, login_order, opened_at, ip_addr, user_agent, "
    "announce, logout_time, reason"
)
_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class Millions:
    """A migrated database with many records.

    There are a user for 33 records, half of them online, with four clients each. A twentieth of all records
    belong to the user ``busy``. One record of a thousand lasted for a month.

    Args:
        url: of the new database.
        records: their number.

    """

    def __init__(self, url: str, records: int) -> None:
        self.url = url
        self.records = records
        self.users = records // 33
        self.is_postgresql = url.startswith("postgres")
        began = time.monotonic()
        store = Store(url)
        store.open()
        with cursor(url) as self._cursor:
            self._fill_recent(records // 10)
            self._fill_users()
        with cursor(url) as self._cursor:
            self._execute("ANALYZE")
        self.load_us_before = self.load_us(store)
        with store.transaction() as tx:
            tx.write_value(HISTORY_LONGEST, str(30 * DAY_MS))
            if self.is_postgresql:
                tx._make_partitions(range(NOW - YEARS_MS - 40 * DAY_MS, NOW, DAY_MS))
        with cursor(url) as self._cursor:
            self._fill_history(records - records // 10)
        store.close()
        if self.is_postgresql:
            import psycopg

            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
        else:
            with cursor(url) as self._cursor:
                self._execute("ANALYZE")
        self.filled_s = time.monotonic() - began

    def load_us(self, store: Store) -> float:
        """Return the time to load a user for a login, in batches of 500; microseconds, best of five."""
        from mqtt_presence.rules.events import Login

        best = 1e9
        for turn in range(5):
            events: dict[Any, Any] = {}
            for number in range(500):
                user = f"user-{(number * 577 + turn * 13) % self.users}"
                event = Login(
                    user_id=user, client_id="phone-1", now=NOW, connection_id=f"n{turn}", fresh_id="f"
                )  # type: ignore[arg-type]
                events[user] = [event]
            began = time.monotonic()
            with store.transaction() as tx:
                tx.load(events)
                best = min(best, (time.monotonic() - began) / len(events) * 1e6)
        return best

    def _fill_recent(self, count: int) -> None:
        live = count // 5
        user, client = f"'user-' || (i % {self.users})", "'phone-' || (i % 4)"
        # What is live, and what has ended in eight days: the first of these days may move.
        self._execute(
            f"INSERT INTO connection_records ({_COLUMNS}, live) SELECT {user}, {client}, 'now-' || i, TRUE, {NOW} - i, "
            f"{NOW} - i, {NOW} - i, '192.0.2.7', '{_AGENT}', TRUE, NULL, NULL, TRUE FROM {self._series(live)}"
        )
        time = f"{NOW - 8 * DAY_MS} + CAST(i AS bigint) * {8 * DAY_MS} / {count - live}"
        self._execute(
            f"INSERT INTO connection_records ({_COLUMNS}, live) SELECT {user}, {client}, 'recent-' || i, TRUE, {time} - 9000, "
            f"{time} - 9000, {time} - 9000, '192.0.2.7', '{_AGENT}', TRUE, {time}, 'logout', FALSE FROM {self._series(count - live)}"
        )
        self._execute(
            "INSERT INTO pulses (id, last_seen, heartbeats, reports) "
            "SELECT id, COALESCE(logout_time, login_time), FALSE, FALSE FROM connection_records"
        )

    def _fill_users(self) -> None:
        self._execute(
            "INSERT INTO user_states (user_id, state, online, idle, since, connections, last_seen, version) "
            "SELECT user_id, CASE WHEN live > 0 THEN 'online' ELSE 'offline' END, live > 0, "
            f"CASE WHEN live > 0 THEN FALSE END, {NOW}, live, {NOW}, 1 FROM (SELECT user_id, "
            "SUM(CASE WHEN live THEN 1 ELSE 0 END) AS live FROM connection_records GROUP BY user_id) AS u"
        )
        self._execute(
            "INSERT INTO user_states (user_id, state, online, since, connections, last_seen, version) "
            f"VALUES ('busy', 'offline', FALSE, {NOW}, 0, {NOW}, 1)"
        )

    def _fill_history(self, count: int) -> None:
        """Fill it without its indexes, and make these afterwards: each row in its place takes far longer."""
        names = ("history_of_user", "history_ended")
        if self.is_postgresql:
            found = [f"SELECT pg_get_indexdef('{name}'::regclass)" for name in names]
        else:
            found = [f"SELECT sql FROM sqlite_master WHERE name = '{name}'" for name in names]
        made = [self._execute(sql).fetchone()[0].replace("ON ONLY", "ON") for sql in found]
        for name in names:
            self._execute(f"DROP INDEX {name}")
        time = f"{NOW - 7 * DAY_MS} - CAST(i AS bigint) * {YEARS_MS} / {count}"
        began = f"{time} - CASE WHEN i % 1000 = 0 THEN {30 * DAY_MS} ELSE 60000 + i % 7 * 600000 END"
        user = (
            f"CASE WHEN i % 20 = 0 THEN 'busy' ELSE 'user-' || (CAST(i AS bigint) * 7919 % {self.users}) END"
        )
        self._execute(
            f"INSERT INTO connection_history ({_COLUMNS}, id, last_seen, heartbeats, reports, idle) "
            f"SELECT {user}, 'phone-' || (i % 4), 'old-' || i, TRUE, {began}, {began}, {began}, '192.0.2.7', "
            f"'{_AGENT}', TRUE, {time}, 'lost', i + 1000000000, {time}, TRUE, FALSE, FALSE FROM {self._series(count)}"
        )
        for sql in made:
            self._execute(sql)

    def _series(self, count: int) -> str:
        numbers = (
            f"SELECT generate_series(0, {count - 1}) AS i"
            if self.is_postgresql
            else "WITH RECURSIVE n(i) AS "
            f"(SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1}) SELECT i FROM n"
        )
        return f"({numbers}) AS n"

    def _execute(self, sql: str) -> Any:
        self._cursor.execute(sql)
        return self._cursor
