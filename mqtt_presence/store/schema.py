"""The tables, as peewee models: the public ones of contract section 5, and what the bridge must not forget.

The contract's `users` and `connections` are views (`VIEWS`), so that a sign of life changes one short row.
The migrations hold frozen copies; a test says when the two differ. Times are epoch milliseconds in UTC.
"""

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
    """A user's state, as last published.

    `last_seen` is that of the last change here: a live connection may have been seen later. So a sign of life
    that changes no state is one write, not two far apart (docs/performance.md).
    """

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
        table_name = "user_states"


class ConnectionRow(Model):
    """A connection, kept after its end, with its `PulseRow`. `login_time` null: only its end is known yet."""

    id = BigAutoField()
    user_id = TextField()
    client_id = TextField()
    connection_id = TextField()
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
    logout_time = BigIntegerField(null=True)
    reason = TextField(null=True)
    check_at = BigIntegerField(null=True)
    live = BooleanField()
    cause = TextField(null=True)
    peer = BigIntegerField(null=True)
    told = BooleanField(null=True)
    client_time = BigIntegerField(null=True)
    origin = TextField(null=True)

    class Meta:
        table_name = "connection_records"
        indexes = ((("user_id", "client_id", "connection_id"), True),)


# The newest connection of a client (L3, L4), by one seek.
ConnectionRow.add_index(ConnectionRow.user_id, ConnectionRow.client_id, ConnectionRow.login_order)
# A user's timeline, newest first, however many clients there were (a browser has one for each page).
ConnectionRow.add_index(
    ConnectionRow.user_id,
    ConnectionRow.login_time,
    where=ConnectionRow.login_time.is_null(False),
    name="connections_of_user",
)
# Partial: each holds what a job or a status needs, not what exists.
# This one also holds all that a sign of life asks of its connection, so that the record need not be read.
ConnectionRow.add_index(
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
    where=SQL("live"),
    name="connections_live",
)
ConnectionRow.add_index(
    ConnectionRow.check_at, where=ConnectionRow.check_at.is_null(False), name="connections_due"
)
ConnectionRow.add_index(
    ConnectionRow.logout_time, where=ConnectionRow.logout_time.is_null(False), name="connections_ended"
)


class PulseRow(Model):
    """The rest of a connection: what its signs of life change.

    Apart, because it is short: a database writes whole pages, and a batch changes much fewer of short rows
    (docs/performance.md). In no index: each sign of life would have to be put there, too.
    """

    id = BigIntegerField(primary_key=True)
    """That of its `ConnectionRow`."""
    last_seen = BigIntegerField()
    heartbeats = BooleanField()
    reports = BooleanField()
    idle = BooleanField(null=True)
    last_activity = BigIntegerField(null=True)

    class Meta:
        table_name = "pulses"


class BridgeRow(Model):
    """What the bridge keeps for itself, by name: the version of its own state, the probe, and such."""

    name = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "bridge"


class SeatRow(Model):
    """The bridge's place at the broker; one process at a time holds it (`seat.py`)."""

    id = IntegerField(primary_key=True)
    client_id = TextField()
    holder = TextField(null=True)
    """The process, for people; null: it has left. On SQLite the lock file names it."""
    since = BigIntegerField(null=True)
    epoch = BigIntegerField()
    """Grows each time that a process takes the seat."""
    batch = BigIntegerField()
    """Grows with each transaction of the holder."""
    expires_at = BigIntegerField(null=True)
    """By the clock of the server."""

    class Meta:
        table_name = "seats"


class OutboxRow(Model):
    """What a batch has to publish, written with it and removed when the broker has it."""

    id = BigAutoField()
    body = BlobField()

    class Meta:
        table_name = "outbox"


class RedeliveryRow(Model):
    """The packet ids of a batch, while the broker may send again what is committed (`redelivery.Line`)."""

    number = BigIntegerField(primary_key=True)
    body = BlobField()

    class Meta:
        table_name = "redeliveries"


class TombstoneRow(Model):
    """A forgotten user, while the broker may still have, or have again, the retained status."""

    user_id = TextField(primary_key=True)
    buried_at = BigIntegerField(null=True)
    """When the broker acknowledged that it is cleared; null: it has not."""

    class Meta:
        table_name = "tombstones"


TABLES = (UserRow, ConnectionRow, PulseRow, BridgeRow, SeatRow, OutboxRow, RedeliveryRow, TombstoneRow)

CONNECTIONS_VIEW = """\
CREATE VIEW connections AS
SELECT r.id, r.user_id, r.client_id, r.connection_id, r.ip_addr, r.user_agent, r.login_time,
       p.last_seen, p.idle, p.last_activity, r.logout_time, r.reason, r.meta, r.cause,
       r.named, r.login_order, r.opened_at, r.idle_threshold_ms, r.timeout_ms, r.announce,
       p.heartbeats, p.reports, r.check_at, r.live, r.peer, r.told, r.client_time, r.origin
FROM connection_records r JOIN pulses p ON p.id = r.id"""
"""The contract's table of connections."""

USERS_VIEW = """\
CREATE VIEW users AS
SELECT s.user_id, s.state, s.online, s.idle, s.since, s.connections,
       s.last_login, s.last_login_order, s.last_login_ip_addr, s.last_login_user_agent, s.last_activity,
       COALESCE(
           (SELECT MAX(c.last_seen) FROM connections c
            WHERE c.live AND c.user_id = s.user_id AND c.last_seen > s.last_seen),
           s.last_seen) AS last_seen,
       s.version
FROM user_states s"""
"""The contract's table of users, its columns in the order of `UserRow`."""

VIEWS = {"connections": CONNECTIONS_VIEW, "users": USERS_VIEW}
"""By name; a view comes after those it reads."""
