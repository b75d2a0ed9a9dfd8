"""A read-only connection: it neither creates nor migrates a database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from mqtt_presence.errors import StoreError
from mqtt_presence.store.database import (
    connect,
    interrupt_after,
    is_postgresql,
    open_connection,
    store_errors,
)
from mqtt_presence.store.upgrades import applied, ours, require_usable


class ReadConnection:
    """A connection to a database that a bridge may be using.

    Args:
        url: see `database.connect`.
        patience_s: the time that all reading together may take, seconds; None for no limit.

    Raises:
        ConfigError: the URL is wrong, or its file does not exist.

    """

    def __init__(self, url: str, *, patience_s: float | None = None) -> None:
        self._database = connect(url, readonly=True, patience_s=patience_s)
        self._patience_s = patience_s
        self._is_sqlite = not is_postgresql(self._database)
        self._mark = "?" if self._is_sqlite else "%s"

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            StoreError: the database cannot be opened, or its schema is another one.

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
            # A reader of a database with a write-ahead log registers in a file beside it.
            advice = "even to read, SQLite must write beside the file: copy it to a directory where it may"
            raise StoreError(f"{error}; {advice}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    @property
    def is_slow_to_open(self) -> bool:
        """Whether a connection is worth keeping; one to a file would outlive a file that is moved."""
        return not self._is_sqlite

    @contextmanager
    def _one_moment(self) -> Iterator[None]:
        """Read the state of one moment in several queries, without waiting for writers or blocking them."""
        isolation = {} if self._is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with store_errors("read the database"), self._database.atomic(**isolation):
            yield

    def _select(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        with self._reading():
            rows: list[Any] = self._database.execute_sql(sql, parameters).fetchall()
            return rows

    def _keys(self, keys: Sequence[str]) -> str:
        """Return the SQL of a table k with as many parameters as keys.

        A join with it makes PostgreSQL find each key by an index. With `IN`, PostgreSQL scans the whole table
        as soon as one of the keys has very many rows.
        """
        return f"(VALUES {','.join([f'({self._mark})'] * len(keys))}) AS k"

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Read in a transaction declared read-only: a pooler may give the session to a writer next."""
        with store_errors("read the database"):
            if self._is_sqlite or self._database.in_transaction():
                yield
            else:
                with self._database.atomic():
                    yield

    def _require_our_schema(self) -> None:
        with self._reading():
            known = applied(self._database)
            if not known:
                raise StoreError("the database is none of mqtt-presence, or the bridge has never run on it")
            require_usable(self._database)
            if ours() - known:
                raise StoreError(
                    "the database was made by an older mqtt-presence: start the bridge once to update it"
                )
