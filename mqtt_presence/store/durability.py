"""Durability: what a committed transaction survives, as far as the settings of its database show it."""

from typing import Final

import peewee
from msgspec import Struct

from mqtt_presence.errors import StoreError
from mqtt_presence.store.database import (
    SQLITE_PRAGMAS,
    connect,
    is_postgresql,
    open_connection,
    sqlstate,
    store_errors,
)

_UNSAFE: Final = {
    "synchronous_commit": {
        "off": "a crash of the server loses the last commits",
        "local": "a commit does not wait for a standby",
    },
    "fsync": {"off": "a crash of the machine may destroy the database"},
    "full_page_writes": {"off": "a crash of the machine may destroy pages of the database"},
}
_SETTINGS: Final = (*_UNSAFE, "synchronous_standby_names", "server_version")
_NO_RIGHT: Final = "42501"  # SQLSTATE: insufficient privilege
# A backup and a subscriber of logical replication follow the server too, and never become the primary. The
# state is hidden from users without pg_read_all_stats.
_STANDBYS: Final = """
(SELECT COUNT(*) FROM pg_stat_replication r WHERE r.state IS DISTINCT FROM 'backup' AND NOT EXISTS (
  SELECT 1 FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical'))"""


class UnreadableError(StoreError):
    """The user of the database may not read the settings."""


class Durability(Struct, frozen=True):
    """What a commit survives, and what it does not.

    Args:
        database: the server or file, and the settings that decide.
        survives: what a commit survives, as far as there are no risks; completes "a commit survives …".
        risks: how the database can lose commits; each begins with the setting that is the reason.
        is_read_only: whether the server is a standby, which takes no commits.
        waits_for_nobody: whether each commit waits for a synchronous standby, and none follows.

    """

    database: str
    survives: str
    risks: tuple[str, ...] = ()
    is_read_only: bool = False
    waits_for_nobody: bool = False


def read_durability(url: str, patience_s: float) -> Durability:
    """Connect, and read the settings in one transaction, which is read-only.

    Args:
        url: see `database.connect`.
        patience_s: the time that a server may take to connect, and for a statement.

    Raises:
        MissingFileError: there is no file yet.
        ConfigError: the URL is wrong, or its driver is not installed.
        UnreadableError: the user may not read the settings.
        StoreError: the database cannot be opened or read.

    """
    database = connect(url, readonly=True, patience_s=patience_s)
    try:
        with store_errors("open the database"):
            open_connection(database)
        with store_errors("read the settings of the database"), database.atomic():
            return durability_of(database)
    except StoreError as error:
        if error.__cause__ is not None and sqlstate(error.__cause__) == _NO_RIGHT:
            raise UnreadableError(str(error)) from error
        raise
    finally:
        database.close()


def durability_of(database: peewee.Database) -> Durability:
    """Return what a commit survives; a single server is no risk, since a commit survives its crash.

    Every user of a PostgreSQL server sees these settings, and the number of its standbys.

    Args:
        database: connected.

    """
    if not is_postgresql(database):
        return _of_sqlite(database)
    settings = ", ".join(f"current_setting('{name}')" for name in _SETTINGS)
    (row,) = database.execute_sql(f"SELECT {settings}, pg_is_in_recovery(), {_STANDBYS}").fetchall()
    *values, is_standby, standbys = row
    found = dict(zip(_SETTINGS, values, strict=True))
    names = found["synchronous_standby_names"]
    risks = [
        f"{setting} = {found[setting]}: {known[found[setting]]}"
        for setting, known in _UNSAFE.items()
        if found[setting] in known
    ]
    if standbys and not names:
        risks.append(
            "synchronous_standby_names is empty, and a standby follows: as the primary it may lack "
            "the last commits"
        )
    server = f"PostgreSQL {found['server_version']}"
    waits = f"synchronous_commit = {found['synchronous_commit']}"
    if is_standby:
        return Durability(f"{server}, a standby", "", is_read_only=True)
    if names:
        return Durability(
            f"{server}, {waits}, synchronous_standby_names = {names!r}, standbys: {standbys}",
            "the loss of the primary, if a synchronous standby takes over",
            tuple(risks),
            waits_for_nobody=not standbys and not risks,
        )
    return Durability(
        f"{server}, {waits}, " + (f"standbys: {standbys}" if standbys else "no standby"),
        "a crash of the server and of its machine, not the loss of its disk",
        tuple(risks),
    )


def durability_risks(database: peewee.Database) -> tuple[str, ...]:
    """Return how the database can lose commits.

    Args:
        database: connected.

    """
    return durability_of(database).risks


def _of_sqlite(database: peewee.Database) -> Durability:
    ((mode,),) = database.execute_sql("PRAGMA journal_mode").fetchall()
    # The bridge sets both at each connection; other programs see settings of their own.
    ours = ", ".join(f"{name} = {SQLITE_PRAGMAS[name]}" for name in ("journal_mode", "synchronous"))
    changes = "" if mode == SQLITE_PRAGMAS["journal_mode"] else f" (from journal_mode = {mode})"
    return Durability(
        f"SQLite, where the bridge sets {ours}{changes}",
        "a crash of the bridge and of its machine, not the loss of its disk",
    )
