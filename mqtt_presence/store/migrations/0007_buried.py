"""Version 7: when the broker acknowledged that a forgotten user's status is cleared."""

from typing import Any

from peewee import BigIntegerField


def up(migrator: Any, db: Any) -> None:
    """Add the column; what is there is not cleared yet."""
    del db
    migrator.migrate(migrator.add_column("tombstones", "buried_at", BigIntegerField(null=True)))
