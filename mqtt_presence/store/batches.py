"""Statements for many keys or rows: the one place where SQLite and PostgreSQL differ in them.

SQLite runs in this process, so it gets portions whose rows stay in the processor's cache. PostgreSQL gets all
rows in one statement, as arrays: each statement costs it a message, a plan and a search of its own.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, Protocol

import peewee

from mqtt_presence.store.rows import ACTIVITY_FIELDS
from mqtt_presence.store.schema import ActivityRow, ConnectionRow

PORTION: Final = 64
"""The greatest number of keys in one statement of SQLite."""
RECORD_KEY: Final = (ConnectionRow.user_id, ConnectionRow.client_id, ConnectionRow.connection_id)

Fields = Sequence[peewee.Field]
Rows = Iterable[tuple[Any, ...]]


class Batches(Protocol):
    """Executes statements for many keys or rows in the transaction of one kind of database.

    Rows are tuples in the order of the fields. Of several rows with one key the last counts.
    """

    portion: int | None
    """The number of users that are best read and written together; None: all of them."""

    def execute(self, statement: str, keys: Collection[tuple[str, ...]]) -> list[Any]:
        """Execute a statement for keys of text, and return the rows of all of them.

        Args:
            statement: the statement, with `{keys}` for a table k with columns column1, column2 and so on.
            keys: the keys; each of them once.

        """

    def update(self, table: type[peewee.Model], fields: Fields, key: Fields, rows: Rows) -> None:
        """Update rows; a tuple has the fields and then the key."""

    def upsert(self, table: type[peewee.Model], fields: Fields, key: Fields, rows: Rows) -> None:
        """Insert or update rows; the key is among the fields."""

    def upsert_activity(self, rows: Rows) -> None:
        """Insert or update the activity of records; a tuple has the activity and then the record's key.

        The key finds the row's id, because a new record has no known id yet.
        """

    def delete(self, table: type[peewee.Model], key: Fields, rows: Rows) -> None:
        """Delete rows by key."""


class Portions:
    """`Batches` for SQLite.

    Args:
        database: the database, with a transaction begun.

    """

    portion: int | None = PORTION

    def __init__(self, database: peewee.Database) -> None:
        self._database = database

    def execute(self, statement: str, keys: Collection[tuple[str, ...]]) -> list[Any]:
        """See `Batches`.

        Keys go in chunks of 1, 2, 4 up to 64, padded with NULLs, which match no row. So few distinct
        statements exist, and SQLite caches their plans.
        """
        keys = list(keys)
        rows: list[Any] = []
        for start in range(0, len(keys), PORTION):
            portion = keys[start : start + PORTION]
            size = 1 << (len(portion) - 1).bit_length()
            marks = f"({','.join('?' * len(portion[0]))})"
            parameters: list[str | None] = [part for key in portion for part in key]
            parameters += [None] * (len(portion[0]) * (size - len(portion)))
            sql = statement.replace("{keys}", f"(VALUES {','.join([marks] * size)}) AS k")
            rows += self._database.execute_sql(sql, parameters).fetchall()
        return rows

    def update(self, table: type[peewee.Model], fields: Fields, key: Fields, rows: Rows) -> None:
        """See `Batches`."""
        self._executemany(f"UPDATE {_name(table)} SET {_equal(fields, ', ')} WHERE {_equal(key)}", rows)

    def upsert(self, table: type[peewee.Model], fields: Fields, key: Fields, rows: Rows) -> None:
        """See `Batches`."""
        self._executemany(
            f"INSERT INTO {_name(table)} ({_columns(fields)}) VALUES ({','.join('?' * len(fields))}) "
            f"{_on_conflict(fields, key)}",
            rows,
        )

    def upsert_activity(self, rows: Rows) -> None:
        """See `Batches`."""
        self._executemany(
            f"INSERT INTO pulses (id, {_columns(ACTIVITY_FIELDS)}) "
            f"SELECT id, {','.join('?' * len(ACTIVITY_FIELDS))} FROM connection_records "
            f"WHERE {_equal(RECORD_KEY)} {_on_conflict(ACTIVITY_FIELDS, (ActivityRow.id,))}",
            rows,
        )

    def delete(self, table: type[peewee.Model], key: Fields, rows: Rows) -> None:
        """See `Batches`."""
        self._executemany(f"DELETE FROM {_name(table)} WHERE {_equal(key)}", rows)

    def _executemany(self, sql: str, rows: Rows) -> None:
        # A tenth of the cost of peewee's own ways of writing many rows.
        rows = list(rows)
        if rows:
            self._database.cursor().executemany(sql, rows)


class Sets:
    """`Batches` for PostgreSQL: one statement for all rows, with an array for each column.

    Args:
        database: the database, with a transaction begun.

    """

    portion: int | None = None

    def __init__(self, database: peewee.Database) -> None:
        self._database = database

    def execute(self, statement: str, keys: Collection[tuple[str, ...]]) -> list[Any]:
        """See `Batches`."""
        if not keys:
            return []
        columns = [text_array(column) for column in zip(*keys, strict=True)]
        names = ",".join(f"column{number}" for number in range(1, len(columns) + 1))
        arrays = ",".join(["%s::text[]"] * len(columns))
        sql = statement.replace("{keys}", f"unnest({arrays}) AS k ({names})")
        rows: list[Any] = self._database.execute_sql(sql, columns).fetchall()
        return rows

    def update(self, table: type[peewee.Model], fields: Fields, key: Fields, rows: Rows) -> None:
        """See `Batches`."""
        assigned = ", ".join(f"{f.column_name} = k.{f.column_name}" for f in fields)
        self._write(
            f"UPDATE {_name(table)} t SET {assigned} FROM {{rows}} WHERE {_same(key)}",
            (*fields, *key),
            key,
            rows,
        )

    def upsert(self, table: type[peewee.Model], fields: Fields, key: Fields, rows: Rows) -> None:
        """See `Batches`."""
        insert = f"INSERT INTO {_name(table)} ({_columns(fields)}) SELECT * FROM {{rows}}"
        self._write(f"{insert} {_on_conflict(fields, key)}", fields, key, rows)

    def upsert_activity(self, rows: Rows) -> None:
        """See `Batches`."""
        columns = _columns(ACTIVITY_FIELDS)
        self._write(
            f"INSERT INTO pulses (id, {columns}) SELECT t.id, {_columns(ACTIVITY_FIELDS, 'k.')} "
            f"FROM {{rows}} JOIN connection_records t ON {_same(RECORD_KEY)} "
            f"{_on_conflict(ACTIVITY_FIELDS, (ActivityRow.id,))}",
            (*ACTIVITY_FIELDS, *RECORD_KEY),
            RECORD_KEY,
            rows,
        )

    def delete(self, table: type[peewee.Model], key: Fields, rows: Rows) -> None:
        """See `Batches`."""
        self._write(f"DELETE FROM {_name(table)} t USING {{rows}} WHERE {_same(key)}", key, key, rows)

    def _write(self, statement: str, fields: Fields, key: Fields, rows: Rows) -> None:
        """Execute a statement, with the rows as a table k."""
        # A statement that names a row twice fails, or takes any of the two.
        names = [field.column_name for field in fields]  # Fields themselves compare to expressions.
        places = [names.index(field.column_name) for field in key]
        (first, *more) = places
        if more:
            distinct = {tuple([row[place] for place in places]): row for row in rows}
        else:
            distinct = {row[first]: row for row in rows}
        if not distinct:
            return
        kinds = [_KINDS[field.field_type] for field in fields]
        parameters = [
            to_array(column)
            for (_, to_array), column in zip(kinds, zip(*distinct.values(), strict=True), strict=True)
        ]
        arrays = ",".join(f"%s::{kind}[]" for kind, _ in kinds)
        sql = statement.replace("{rows}", f"unnest({arrays}) AS k ({_columns(fields)})")
        self._database.execute_sql(sql, parameters)


# PostgreSQL's arrays as text. psycopg's own conversion costs several times as much for each element.


def text_array(values: Sequence[str | None]) -> str:
    """Return an array of text."""
    if None in values:
        if values.count(None) == len(values):
            return _number_array(values)
        return f"{{{','.join('NULL' if v is None else _quoted(v) for v in values)}}}"
    joined = "\0".join(values)  # type: ignore[arg-type]
    if joined.count("\0") != len(values) - 1:  # A text has a NUL. psycopg refuses it as bad input.
        return f"{{{','.join(_quoted(v or '') for v in values)}}}"
    return "{" + _quoted(joined).replace("\0", '","') + "}"


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _number_array(values: Sequence[Any]) -> str:
    """Return an array of numbers or truth values."""
    return f"{{{repr(list(values))[1:-1].replace('None', 'NULL')}}}"


def _bytes_array(values: Sequence[bytes | None]) -> list[bytes | None]:
    """Return an array of bytes for psycopg, which sends these as they are."""
    return list(values)


_KINDS: Final[dict[str, tuple[str, Callable[[Sequence[Any]], Any]]]] = {
    "TEXT": ("text", text_array),
    "BIGINT": ("bigint", _number_array),
    "BIGAUTO": ("bigint", _number_array),
    "INT": ("int", _number_array),
    "BOOL": ("boolean", _number_array),
    "BLOB": ("bytea", _bytes_array),
}


# Parts of statements, written by hand: peewee would reorder the columns.


def _name(table: type[peewee.Model]) -> str:
    return str(table._meta.table_name)


def _columns(fields: Fields, prefix: str = "") -> str:
    return ", ".join(f"{prefix}{field.column_name}" for field in fields)


def _equal(fields: Fields, between: str = " AND ") -> str:
    return between.join(f"{field.column_name} = ?" for field in fields)


def _same(key: Fields) -> str:
    return " AND ".join(f"t.{field.column_name} = k.{field.column_name}" for field in key)


def _on_conflict(fields: Fields, key: Fields) -> str:
    names = {field.column_name for field in key}
    columns = [field.column_name for field in fields if field.column_name not in names]
    assigned = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return f"ON CONFLICT ({_columns(key)}) DO UPDATE SET {assigned}"
