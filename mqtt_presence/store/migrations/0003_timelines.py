"""Version 3: an index of a user's connections in the order of their logins, for the page's timelines."""

from typing import Any

from peewee import BigAutoField, BigIntegerField, Model, TextField


class ConnectionRow(Model):
    id = BigAutoField()
    user_id = TextField()
    login_time = BigIntegerField(null=True)

    class Meta:
        table_name = "connections"


def up(migrator: Any, db: Any) -> None:
    """Create the index."""
    del migrator
    ConnectionRow.bind(db)
    fields = (ConnectionRow.user_id, ConnectionRow.login_time)
    where = ConnectionRow.login_time.is_null(False)
    db.execute(ConnectionRow.index(*fields, where=where, name="connections_of_user"))
