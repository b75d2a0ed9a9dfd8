"""Version 8: the index of live connections holds all columns that a sign of life needs."""

from typing import Any

from peewee import SQL, BigAutoField, BigIntegerField, BooleanField, Model, TextField


class ConnectionRow(Model):
    id = BigAutoField()
    user_id = TextField()
    client_id = TextField()
    connection_id = TextField()
    login_order = BigIntegerField(null=True)
    opened_at = BigIntegerField(null=True)
    idle_threshold_ms = BigIntegerField(null=True)
    timeout_ms = BigIntegerField(null=True)
    logout_time = BigIntegerField(null=True)
    check_at = BigIntegerField(null=True)
    live = BooleanField()

    class Meta:
        table_name = "connection_records"


FIELDS = (
    ConnectionRow.user_id,
    ConnectionRow.client_id,
    ConnectionRow.id,
    ConnectionRow.connection_id,
    ConnectionRow.login_order,
    ConnectionRow.opened_at,
    ConnectionRow.idle_threshold_ms,
    ConnectionRow.timeout_ms,
    ConnectionRow.logout_time,
    ConnectionRow.check_at,
    ConnectionRow.live,
)


def up(migrator: Any, db: Any) -> None:
    """Replace the index by one with more columns."""
    migrator.migrate(migrator.drop_index("connection_records", "connections_live"))
    ConnectionRow.bind(db)
    db.execute(ConnectionRow.index(*FIELDS, where=SQL("live"), name="connections_live"))
