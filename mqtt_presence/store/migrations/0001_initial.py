"""Version 1 of the schema."""

from typing import Any

from peewee import (
    SQL,
    BigAutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    IntegerField,
    Model,
    TextField,
)


class UserRow(Model):
    user_id = TextField(primary_key=True)
    state = TextField()
    online = BooleanField()
    idle = BooleanField(null=True)
    since = BigIntegerField(null=True)
    connections = IntegerField()
    last_login = BigIntegerField(null=True)
    last_login_order = BigIntegerField(null=True)
    last_login_ip_addr = TextField(null=True)
    last_login_user_agent = TextField(null=True)
    last_activity = BigIntegerField(null=True)
    last_seen = BigIntegerField(null=True)
    version = BigIntegerField()

    class Meta:
        table_name = "users"


class ConnectionRow(Model):
    id = BigAutoField()
    user_id = TextField()
    client_id = TextField()
    connection_id = TextField()
    last_seen = BigIntegerField()
    named = BooleanField()
    login_time = BigIntegerField(null=True)
    login_order = BigIntegerField(null=True)
    opened_at = BigIntegerField(null=True)
    ip_addr = TextField(null=True)
    user_agent = TextField(null=True)
    idle_threshold_ms = BigIntegerField(null=True)
    timeout_ms = BigIntegerField(null=True)
    announce = BooleanField()
    meta = TextField(null=True)
    heartbeats = BooleanField()
    reports = BooleanField()
    idle = BooleanField(null=True)
    last_activity = BigIntegerField(null=True)
    logout_time = BigIntegerField(null=True)
    reason = TextField(null=True)
    check_at = BigIntegerField(null=True)
    live = BooleanField()

    class Meta:
        table_name = "connections"
        indexes = ((("user_id", "client_id", "connection_id"), True),)


# The latest login of a client (L3, L4), found by one seek.
ConnectionRow.add_index(ConnectionRow.user_id, ConnectionRow.client_id, ConnectionRow.login_order)
# Partial indexes: each holds only the rows that a job or a status needs.
ConnectionRow.add_index(ConnectionRow.user_id, where=SQL("live"), name="connections_live")
ConnectionRow.add_index(
    ConnectionRow.check_at, where=ConnectionRow.check_at.is_null(False), name="connections_due"
)
ConnectionRow.add_index(
    ConnectionRow.logout_time, where=ConnectionRow.logout_time.is_null(False), name="connections_ended"
)


class BridgeRow(Model):
    name = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "bridge"


class OutboxRow(Model):
    id = BigAutoField()
    body = BlobField()

    class Meta:
        table_name = "outbox"


class TombstoneRow(Model):
    user_id = TextField(primary_key=True)

    class Meta:
        table_name = "tombstones"


TABLES = (UserRow, ConnectionRow, BridgeRow, OutboxRow, TombstoneRow)


def up(migrator: Any, db: Any) -> None:
    """Create the tables."""
    del migrator
    for table in TABLES:
        table.bind(db)
        table.create_table()
