"""Version 5: the index of live connections finds those of one client, too."""

from typing import Any

from peewee import SQL, BigAutoField, Model, TextField


class ConnectionRow(Model):
    id = BigAutoField()
    user_id = TextField()
    client_id = TextField()

    class Meta:
        table_name = "connections"


def up(migrator: Any, db: Any) -> None:
    """Replace the index by one with the client."""
    migrator.migrate(migrator.drop_index("connections", "connections_live"))
    ConnectionRow.bind(db)
    fields = (ConnectionRow.user_id, ConnectionRow.client_id)
    db.execute(ConnectionRow.index(*fields, where=SQL("live"), name="connections_live"))
