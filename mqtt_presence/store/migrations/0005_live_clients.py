"""Version 5 of the schema: the live connections of one client are found as fast as those of a user."""

from typing import Any

from peewee import SQL, BigAutoField, Model, TextField


class ConnectionRow(Model):
    id = BigAutoField()
    user_id = TextField()
    client_id = TextField()

    class Meta:
        table_name = "connections"


def up(migrator: Any, db: Any) -> None:
    """Make the index anew, with the client in it."""
    migrator.migrate(migrator.drop_index("connections", "connections_live"))
    ConnectionRow.bind(db)
    fields = (ConnectionRow.user_id, ConnectionRow.client_id)
    db.execute(ConnectionRow.index(*fields, where=SQL("live"), name="connections_live"))
