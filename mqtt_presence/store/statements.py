"""SQL statements for SQLite and PostgreSQL alike: written, and executed for many keys or rows.

Loading and saving use SQL text, because peewee's queries cost several times as much for each row. Queries
that run once in a while use peewee's.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import peewee

from mqtt_presence.store.batches import Batches, Portions, Sets


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
        self._batches: Batches = Sets(database) if is_postgresql else Portions(database)

    def _select(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        rows: list[Any] = self._database.execute_sql(sql, parameters).fetchall()
        return rows

    def _select_each(self, columns: str, rest: str, keys: Collection[tuple[str, ...]]) -> list[Any]:
        """Select rows by keys; the key's columns are k.column1, k.column2 and so on."""
        # With CROSS JOIN, SQLite begins with the keys; with `IN (VALUES ...)` it would scan the other table.
        return self._batches.execute(f"SELECT {columns} FROM {{keys}} {rest}", keys)

    def _executemany(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        # A tenth of the cost of peewee's own ways of writing many rows.
        rows = list(rows)
        if rows:
            self._database.cursor().executemany(sql, rows)

    def _run(self, query: Any) -> Any:
        # The models are bound to no database, because one process may have several stores.
        return query.execute(self._database)
