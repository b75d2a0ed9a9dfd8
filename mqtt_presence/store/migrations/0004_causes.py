"""Version 4: the cause of an end as the broker reports it, and the network connection of a record."""

from typing import Any

from peewee import BigIntegerField, BooleanField, TextField


def up(migrator: Any, db: Any) -> None:
    """Add the columns; they are unknown for existing records, so no row changes."""
    del db
    migrator.migrate(
        migrator.add_column("connections", "cause", TextField(null=True)),
        migrator.add_column("connections", "peer", BigIntegerField(null=True)),
        migrator.add_column("connections", "told", BooleanField(null=True)),
    )
