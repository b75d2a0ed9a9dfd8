"""Version 11: the seat of the bridge as a row, held by one process at a time."""

import secrets
from typing import Any

from peewee import BigIntegerField, IntegerField, Model, PostgresqlDatabase, TextField


class SeatRow(Model):
    id = IntegerField(primary_key=True)
    client_id = TextField()
    holder = TextField(null=True)
    since = BigIntegerField(null=True)
    epoch = BigIntegerField()
    batch = BigIntegerField()
    expires_at = BigIntegerField(null=True)

    class Meta:
        table_name = "seats"


def up(_migrator: Any, db: Any) -> None:
    """Create the table with one seat, which inherits the client id and so the session."""
    SeatRow.bind(db)
    SeatRow.create_table()
    if isinstance(db, PostgresqlDatabase):
        db.execute_sql("ALTER TABLE seats SET (fillfactor = 50)")
    kept = db.execute_sql("SELECT value FROM bridge WHERE name = 'client_id'").fetchall()
    # A client that knows the client id can take over the bridge's connection to the broker.
    client_id = kept[0][0] if kept else f"bridge-{secrets.token_urlsafe(24)}"
    SeatRow.insert(id=0, client_id=client_id, epoch=0, batch=0).execute()
    db.execute_sql("DELETE FROM bridge WHERE name = 'client_id'")
