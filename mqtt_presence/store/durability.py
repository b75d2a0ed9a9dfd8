"""Durability: whether a database can lose what it has committed; its settings show some of the ways."""

from typing import Final

import peewee

_UNSAFE: Final = {
    "synchronous_commit": {
        "off": "a crash of the server loses the last commits",
        "local": "a commit does not wait for a standby",
    },
    "fsync": {"off": "a crash of the machine may destroy the database"},
    "full_page_writes": {"off": "a crash of the machine may destroy pages of the database"},
}


def durability_risks(database: peewee.Database) -> list[str]:
    """Return how the database can lose commits; empty for SQLite, whose settings are those of this program.

    A single server is no risk in this sense: a commit survives its crash. Every user of the server sees
    these settings, and the number of its standbys.

    Args:
        database: connected.

    """
    if not isinstance(database, peewee.PostgresqlDatabase):
        return []
    risks = []
    for setting, values in _UNSAFE.items():
        ((value,),) = database.execute_sql(f"SHOW {setting}").fetchall()
        if value in values:
            risks.append(f"{setting} = {value}: {values[value]}")
    ((names,),) = database.execute_sql("SHOW synchronous_standby_names").fetchall()
    ((standbys,),) = database.execute_sql("SELECT COUNT(*) FROM pg_stat_replication").fetchall()
    if standbys and not names:
        risks.append(
            "synchronous_standby_names is empty, and a standby follows: as the primary it may lack "
            "the last commits"
        )
    return risks
