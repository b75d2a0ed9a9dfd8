"""Upgrades of the schema, beside processes of another release.

A new release migrates the database while bridges and commands of the last one go on. So a migration adds only
what older programs need not know, and what it removes has been unused for a release
(docs/scale.md, "Rolling upgrades"). The database says which migration a program must know at least.
"""

import os
import re
import time
from contextlib import suppress

import peewee
from playhouse.migrations import Runner

from mqtt_presence.errors import StoreError
from mqtt_presence.store.database import MIGRATIONS, open_connection, sqlstate, store_errors

OLDEST_KNOWN = "0019_unconfirmed"
"""The oldest migration that a program must know to use the schema of this release.

The later ones only add: seats and standbys (20), the history (21), and a number that is null at first (22).
A bridge that ends with migration 19 goes on beside them: it holds seat 0, and moves no record to the history.
"""
STANDBY_MS = 5_000
"""For so long a waiting process counts as one after its last sign of life."""
_NAME = "oldest_known_migration"
_MIGRATION_LOCK = 0x6D71_7470  # an advisory lock, with a number of this program
# Much less than a lease: while a migration waits for a table, all statements on that table wait behind it.
_LOCK_WAIT_MS = 2_000
_ATTEMPTS = 10
_PAUSE_S = 0.5
_BUSY_STATES = ("40001", "40P01", "55P03")  # serialization failure, deadlock, lock not available


def prepare(database: peewee.Database) -> None:
    """Bring the schema up to date.

    Raises:
        StoreError: the database cannot be opened or written, needs a newer release, or processes of an older
            release still use what would be removed.

    """
    with store_errors("open the database"):
        if isinstance(database, peewee.SqliteDatabase):
            # The file holds addresses and names, so only its owner may read it, from the first byte on. An
            # existing file is not opened: closing it would release the locks that this process may hold on it
            # (SQLite's "How To Corrupt An SQLite Database File", 2.2).
            with suppress(FileExistsError):
                os.close(os.open(database.database, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        open_connection(database)
        if isinstance(database, peewee.SqliteDatabase):
            _migrate(database)
            return
        for attempt in range(_ATTEMPTS):
            try:
                with database.atomic():  # one process at a time, however long it takes
                    database.execute_sql("SET LOCAL lock_timeout = 0")
                    database.execute_sql("SELECT pg_advisory_xact_lock(%s)", [_MIGRATION_LOCK])
                    database.execute_sql(f"SET LOCAL lock_timeout = {_LOCK_WAIT_MS}")
                    _migrate(database)
                break
            except peewee.OperationalError as error:  # a bridge or a long query has a table
                if sqlstate(error) not in _BUSY_STATES or attempt == _ATTEMPTS - 1:
                    raise
            time.sleep(_PAUSE_S)


def _migrate(database: peewee.Database) -> None:
    has_newer = require_usable(database)
    Runner(database, directory=str(MIGRATIONS)).up()
    if not has_newer and _oldest_known(database) != OLDEST_KNOWN:
        mark = "?" if isinstance(database, peewee.SqliteDatabase) else "%s"
        database.execute_sql(
            f"INSERT INTO bridge (name, value) VALUES ({mark}, {mark}) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            [_NAME, OLDEST_KNOWN],
        )


def ours() -> set[str]:
    """Return the names of the migrations of this release."""
    return {path.stem for path in MIGRATIONS.glob("[0-9]*.py")}


def applied(database: peewee.Database) -> set[str]:
    """Return the names of the migrations of the database; none: no bridge has run on it."""
    if not database.table_exists("schema_migration"):
        return set()
    return {row[0] for row in database.execute_sql("SELECT name FROM schema_migration").fetchall()}


def require_usable(database: peewee.Database) -> bool:
    """Return whether a newer release has migrated the database.

    Raises:
        StoreError: this release is too old for its schema.

    """
    newer = applied(database) - ours()
    if not newer:
        return False
    oldest = _oldest_known(database)
    if oldest not in ours():
        needed = "" if oldest is None else f" (it needs migration {oldest})"
        raise StoreError(
            f"the database was made by a newer mqtt-presence{needed}: upgrade this one", transient=False
        )
    return True


def _oldest_known(database: peewee.Database) -> str | None:
    rows = database.execute_sql(f"SELECT value FROM bridge WHERE name = '{_NAME}'").fetchall()
    return rows[0][0] if rows else None


def require_release(database: peewee.Database, release: str) -> None:
    """Require that every bridge and standby is of a release, or of a later one.

    For migrations that remove something, as their first call. The migration is undone, and is tried again
    when the next process of its release starts. SQLite has one process at a time, which migrates.

    Args:
        database: the database, inside the migration.
        release: the first release that does not use what the migration removes.

    Raises:
        StoreError: processes of older releases are alive; the message names them.

    """
    if isinstance(database, peewee.SqliteDatabase):
        return
    now = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint"
    alive = database.execute_sql(
        f"SELECT holder, release FROM seats WHERE expires_at >= {now} UNION ALL "
        f"SELECT node, release FROM standbys WHERE seen_at >= {now} - {STANDBY_MS} ORDER BY 1"
    ).fetchall()
    older = [f"{node} ({of or 'unknown'})" for node, of in alive if _order(of) < _order(release)]
    if older:
        raise StoreError(
            f"the schema of this release needs {release} or later in all processes: "
            f"first upgrade {', '.join(older)}"
        )


def _order(release: str | None) -> list[int]:
    """Return the numbers of a release, to compare: 0.10 is later than 0.9."""
    return [int(number) for number in re.findall(r"\d+", (release or "").partition("+")[0])]
