"""Opening of a database, SQLite or PostgreSQL, and translation of its errors into `StoreError`."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee
from playhouse import db_url

from mqtt_presence.errors import ConfigError, StoreError
from mqtt_presence.store.postgresql import ANSWER_S, Postgresql

MIGRATIONS = Path(__file__).with_name("migrations")

# synchronous=FULL: acknowledged messages must survive a power cut, and batches make this cheap.
# IMMEDIATE: otherwise a transaction that reads and then writes would fail at once beside another writer.
SQLITE_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",
    "cache_size": -32_000,  # KiB
    # Signs of life are scattered over the database: the more a checkpoint holds, the fewer pages it writes.
    "wal_autocheckpoint": 8_000,  # pages
    "journal_size_limit": 64 * 1024 * 1024,
}
# A lost server is detected within half a minute, not after hours.
_LIVELINESS = {
    "connect_timeout": round(ANSWER_S),
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
# Of several servers the dead one is tried first as often as not, and the next one takes over its work.
_CONNECT_TIMEOUT_OF_SEVERAL_S = 2
# The bridge finds rows by keys, thousands in a statement. For so many PostgreSQL would read whole tables. A
# plan kept from small tables is wrong for large ones. Compiling one takes longer than most statements.
_BY_INDEX = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "plan_cache_mode": "force_custom_plan",
}
# Of SQLite's machine between two checks of the clock: some milliseconds. A check waits for the interpreter,
# which a busy bridge leaves every 5 ms only: with 10,000 steps, a query of 0.3 s took 2 to 4 s beside it.
_STEPS = 100_000
_BUSY_TIMEOUT_S = 1.0  # much less than any keep alive, because the link is served in between

_ERRORS: tuple[type[Exception], ...] = (
    peewee.PeeweeException,
    sqlite3.Error,
    OSError,
    MemoryError,
    OverflowError,  # from sqlite3, for a number beyond a column's range
    UnicodeError,
)
# Only these are certainly errors of the input.
_INPUT_ERRORS: tuple[type[Exception], ...] = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    OverflowError,
    UnicodeError,
)
_INPUT_STATES = ("22", "23")  # SQLSTATE: data exception, integrity constraint violation
_CONFLICT_STATES = ("40001", "40P01")  # serialization failure, deadlock
_HINTS = {  # what the server's own text leaves out
    "55P03": "; another transaction has the row, perhaps one that waits for its synchronous standby",
}
_POSTGRESQL_ERRORS: tuple[type[Exception], ...] = ()
try:
    import psycopg
except ImportError:  # the extra `postgresql` is not installed
    pass
else:
    _ERRORS += (psycopg.Error,)
    _INPUT_ERRORS += (psycopg.DataError,)  # psycopg itself refuses the value, without a SQLSTATE
    _POSTGRESQL_ERRORS = (psycopg.Error,)

LEASE_MS = 10_000
"""The time for which a silent bridge keeps its seat and its locks on PostgreSQL."""


class MissingFileError(ConfigError):
    """There is no file to read; a bridge would make it."""


def connect(url: str, *, readonly: bool = False, patience_s: float | None = None) -> peewee.Database:
    """Return the database object of a URL, without opening it.

    Args:
        url: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql://user:password@host/name``.
        readonly: only read: create no file and do not migrate.
        patience_s: the time that a server may take to connect, and for a statement; None for no limit.

    Raises:
        ConfigError: the URL is wrong, or its driver is not installed.
        StoreError: `readonly`, and the directory of the file is not accessible.

    """
    if not url:
        raise ConfigError(
            "database is not set, and without a home directory it has no default: "
            "give --database, or set HOME or XDG_DATA_HOME"
        )
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        path = rest.removeprefix("/")
        if not path or path == ":memory:":
            raise ConfigError("database=sqlite:// needs a file: sqlite:///presence.db")
        if readonly:
            _require_file(path, url)
            return peewee.SqliteDatabase(path, timeout=_BUSY_TIMEOUT_S)
        return peewee.SqliteDatabase(
            path, pragmas=SQLITE_PRAGMAS, timeout=_BUSY_TIMEOUT_S, lock_type="IMMEDIATE"
        )
    if scheme in {"postgresql", "postgres"}:
        if not _POSTGRESQL_ERRORS:
            raise ConfigError(
                "database=postgresql://… needs psycopg: pip install 'mqtt-presence-bridge[postgresql]'"
            )
        return _postgresql(url, readonly=readonly, patience_s=patience_s)
    raise ConfigError(f"database scheme {scheme!r} is neither sqlite nor postgresql")


def _require_file(path: str, url: str) -> None:
    try:
        Path(path).stat()
    except FileNotFoundError:
        raise MissingFileError(f"database={url}: there is no such file") from None
    except OSError as error:
        raise StoreError(f"cannot open the database: {error}") from error


def interrupt_after(database: peewee.Database, patience_s: float) -> None:
    """Interrupt every statement on this connection after a time.

    Args:
        database: the SQLite database, connected.
        patience_s: the time from now, seconds.

    """
    end = time.monotonic() + patience_s
    database.connection().set_progress_handler(lambda: time.monotonic() > end, _STEPS)


def _postgresql(url: str, *, readonly: bool, patience_s: float | None) -> peewee.Database:
    given = db_url.parse(url)
    parameters = {**_patience(patience_s), **given}
    if "," in f"{given.get('host', '')}{given.get('port', '')}" and "connect_timeout" not in given:
        parameters["connect_timeout"] = _CONNECT_TIMEOUT_OF_SEVERAL_S
    limits: dict[str, int | str] = {"idle_in_transaction_session_timeout": LEASE_MS}
    if not readonly:
        limits |= _BY_INDEX
        limits["lock_timeout"] = round(ANSWER_S * 1000)
    if patience_s is not None:
        limits["statement_timeout"] = round(patience_s * 1000)
    name = parameters.pop("database")
    return Postgresql(name, readonly=readonly, limits=limits, **parameters)


def _patience(patience_s: float | None) -> dict[str, Any]:
    """Return the parameters of libpq that end waiting for a server."""
    if patience_s is None:
        return _LIVELINESS
    return {
        "connect_timeout": max(2, round(patience_s)),  # the least that libpq accepts
        "tcp_user_timeout": round(patience_s * 1000),
    }


def open_connection(database: peewee.Database) -> None:
    """Connect; an error names SQLite's file and the reason, which SQLite leaves out."""
    try:
        database.connect(reuse_if_open=True)
    except peewee.OperationalError as error:
        if isinstance(database, peewee.SqliteDatabase) and "unable to open" in str(error):
            raise OSError(f"{_reason(database.database)}: {database.database!r}") from error
        raise


def _reason(path: str) -> str:
    if os.path.isdir(path):  # noqa: PTH112, Path.is_dir raises where the directory may not be entered
        return "it is a directory"
    if os.access(path, os.F_OK) and not os.access(path, os.R_OK):
        return "there is no right to read it"
    return "its directory cannot be used"


def is_postgresql(database: peewee.Database) -> bool:
    """Return whether the database is PostgreSQL, which needs row locks; SQLite locks the whole database."""
    return isinstance(database, peewee.PostgresqlDatabase)


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn the exceptions of database drivers into a `StoreError`.

    Args:
        what: the action, which completes "cannot …".

    """
    try:
        yield
    except _ERRORS as error:
        cause, state = _cause(error), sqlstate(error)
        is_input = state.startswith(_INPUT_STATES) if state else isinstance(cause, _INPUT_ERRORS)
        raise StoreError(
            f"cannot {what}: {_line(error)}{_HINTS.get(state, '')}",
            transient=not is_input,
            conflict=state in _CONFLICT_STATES,
        ) from error


def sqlstate(error: BaseException) -> str:
    """Return PostgreSQL's code of an error; empty for other errors."""
    return str(getattr(_cause(error), "sqlstate", None) or "")


def _cause(error: BaseException) -> BaseException:
    """Return the driver's error behind an error of peewee."""
    cause: BaseException = getattr(error, "orig", error)
    return cause


def _line(error: BaseException) -> str:
    # On a full disk SQLite rolls back by itself; peewee then reports a failed rollback, and hides the reason.
    while "cannot rollback" in str(error) and error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split()) or type(error).__name__
