"""Version 18 of the schema: an index of users by state and name, and the changes of statuses for streams."""

import secrets
import time
from typing import Any

import peewee
from peewee import BigIntegerField, BlobField, Model


class ChangeRow(Model):
    id = BigIntegerField(primary_key=True)
    time = BigIntegerField()
    total = BigIntegerField()
    body = BlobField()

    class Meta:
        table_name = "changes"


def up(migrator: Any, db: Any) -> None:
    """Add the index, the table with its first row, and the random name of this log."""
    del migrator
    # In the order of code points, whatever the collation of the database: it is also the order of Python.
    name = 'user_id COLLATE "C"' if isinstance(db, peewee.PostgresqlDatabase) else "user_id"
    db.execute_sql(f"CREATE INDEX users_by_state ON user_states (state, {name})")
    ChangeRow.bind(db)
    ChangeRow.create_table()
    # An empty list in MessagePack.
    ChangeRow.insert(id=1, time=time.time_ns() // 1_000_000, total=0, body=b"\x90").execute()
    mark = "%s" if isinstance(db, peewee.PostgresqlDatabase) else "?"
    db.execute_sql(
        f"INSERT INTO bridge (name, value) VALUES ({mark}, {mark})", ["change_log", secrets.token_hex(4)]
    )
