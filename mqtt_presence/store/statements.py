"""SQL statements for SQLite and PostgreSQL alike: written, and executed for many keys or rows.

Loading and saving use SQL text, because peewee's queries cost several times as much for each row. Queries
that run once in a while use peewee's.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import peewee

from mqtt_presence.store.rows import ACTIVITY_FIELDS
from mqtt_presence.store.schema import ConnectionRow

PORTION = 64
"""The greatest number of keys in one statement. The rows of so many keys stay in the processor's cache until
they are written."""

RECORD_KEY = (ConnectionRow.user_id, ConnectionRow.client_id, ConnectionRow.connection_id)


class Statements:
    """Executes statements in the transaction of one database.

    Args:
        database: the database, with a transaction begun.
        is_postgresql: whether the database is PostgreSQL, else SQLite.

    """

    def __init__(self, database: peewee.Database, *, is_postgresql: bool) -> None:
        self._database = database
        self._mark = "%s" if is_postgresql else "?"
        self._is_postgresql = is_postgresql

    # Executing.

    def _select(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        rows: list[Any] = self._database.execute_sql(sql, parameters).fetchall()
        return rows

    def _select_each(self, columns: str, rest: str, keys: Collection[tuple[str, ...]]) -> list[Any]:
        """Select rows by keys; both databases name the key's columns k.column1, k.column2 and so on."""
        # With CROSS JOIN, SQLite begins with the keys; with `IN (VALUES ...)` it would scan the other table.
        return self._execute_each(f"SELECT {columns} FROM (VALUES {{keys}}) AS k {rest}", keys)

    def _execute_each(self, statement: str, keys: Collection[tuple[str, ...]]) -> list[Any]:
        """Execute a statement for keys, and return the rows of all of them.

        Keys go in chunks of 1, 2, 4 up to 64, padded with NULLs, which match no row. So few distinct
        statements exist, and the database caches their plans.

        Args:
            statement: the statement, with `{keys}` in place of the list of keys.
            keys: the values of the keys.

        """
        keys = list(keys)
        rows: list[Any] = []
        for start in range(0, len(keys), PORTION):
            portion = keys[start : start + PORTION]
            size = 1 << (len(portion) - 1).bit_length()
            marks = f"({','.join([self._mark] * len(portion[0]))})"
            parameters: list[str | None] = [part for key in portion for part in key]
            parameters += [None] * (len(portion[0]) * (size - len(portion)))
            rows += self._select(statement.replace("{keys}", ",".join([marks] * size)), parameters)
        return rows

    def _executemany(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        # A tenth of the cost of peewee's own ways of writing many rows.
        rows = list(rows)
        if rows:
            self._database.cursor().executemany(sql, rows)

    def _run(self, query: Any) -> Any:
        # The models are bound to no database, because one process may have several stores.
        return query.execute(self._database)

    # Writing statements by hand: peewee would reorder the columns.

    def _update(
        self, table: type[peewee.Model], fields: Iterable[peewee.Field], key: Iterable[peewee.Field]
    ) -> str:
        """Return an UPDATE statement; its parameters are the fields and then the key."""
        name = table._meta.table_name
        return f"UPDATE {name} SET {self._equal(fields, ', ')} WHERE {self._equal(key, ' AND ')}"

    def _upsert(
        self, table: type[peewee.Model], fields: Sequence[peewee.Field], key: Sequence[peewee.Field]
    ) -> str:
        """Return an INSERT or UPDATE statement; its parameters are the fields, the key among them."""
        columns = [field.column_name for field in fields]
        names = [field.column_name for field in key]
        return (
            f"INSERT INTO {table._meta.table_name} ({', '.join(columns)}) "
            f"VALUES ({', '.join([self._mark] * len(columns))}) ON CONFLICT ({', '.join(names)}) "
            f"DO UPDATE SET {_excluded(c for c in columns if c not in names)}"
        )

    def _upsert_activity(self) -> str:
        """Return the statement for a record's activity; its parameters are the activity and the record's key.

        The key finds the row's id, because a new record has no known id yet.
        """
        columns = [field.column_name for field in ACTIVITY_FIELDS]
        return (
            f"INSERT INTO pulses (id, {', '.join(columns)}) "
            f"SELECT id, {', '.join([self._mark] * len(columns))} FROM connection_records "
            f"WHERE {self._equal(RECORD_KEY, ' AND ')} ON CONFLICT (id) DO UPDATE SET {_excluded(columns)}"
        )

    def _equal(self, fields: Iterable[peewee.Field], between: str) -> str:
        return between.join(f"{field.column_name} = {self._mark}" for field in fields)


def _excluded(columns: Iterable[str]) -> str:
    return ", ".join(f"{column} = excluded.{column}" for column in columns)
