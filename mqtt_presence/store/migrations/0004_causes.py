"""Version 4: how the broker saw a connection end, and by which of its connections it came."""

from typing import Any

from peewee import BigIntegerField, BooleanField, TextField


def up(migrator: Any, db: Any) -> None:
    """Add the columns; nothing is known of the connections there are, so no row is touched."""
    del db
    migrator.migrate(
        migrator.add_column("connections", "cause", TextField(null=True)),
        migrator.add_column("connections", "peer", BigIntegerField(null=True)),
        migrator.add_column("connections", "told", BooleanField(null=True)),
    )
