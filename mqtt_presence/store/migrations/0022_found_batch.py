"""Version 22: a seat keeps the number of transactions that its holder found.

So the holder before can see that the database had lost some of its own by then.
"""

from typing import Any

from peewee import BigIntegerField


def up(migrator: Any, db: Any) -> None:
    """Add the column, without values."""
    del db
    migrator.migrate(migrator.add_column("seats", "found_batch", BigIntegerField(null=True)))
