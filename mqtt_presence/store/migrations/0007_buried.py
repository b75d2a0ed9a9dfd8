"""Version 7: the time when the broker acknowledged the empty status of a forgotten user."""

from typing import Any

from peewee import BigIntegerField


def up(migrator: Any, db: Any) -> None:
    """Add the column; the existing entries count as uncleared."""
    del db
    migrator.migrate(migrator.add_column("tombstones", "buried_at", BigIntegerField(null=True)))
