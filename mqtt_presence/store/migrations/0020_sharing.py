"""Version 20: several seats, and the processes that wait for one.

The bridge of the last release goes on beside this schema: it holds seat 0, whose number is the default.
"""

from typing import Any

from peewee import BigIntegerField, BooleanField, Model, TextField


class StandbyRow(Model):
    node = TextField(primary_key=True)
    release = TextField()
    since = BigIntegerField()
    seen_at = BigIntegerField()

    class Meta:
        table_name = "standbys"


def up(migrator: Any, db: Any) -> None:
    """Add what a seat keeps, and whose outbox an entry is in."""
    StandbyRow.bind(db)
    StandbyRow.create_table()
    migrator.migrate(
        migrator.add_column("seats", "release", TextField(null=True)),
        migrator.add_column("seats", "heard_until", BigIntegerField(null=True)),
        migrator.add_column("seats", "subscribed", BooleanField(null=True)),
        migrator.add_column("seats", "leaving", BooleanField(null=True)),
    )
    # Not by the migrator: on SQLite it would make the table anew, and ids would no longer only grow.
    db.execute_sql("ALTER TABLE outbox ADD COLUMN seat INTEGER NOT NULL DEFAULT 0")
