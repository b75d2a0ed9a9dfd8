"""The tables, as peewee models: presence (docs/protocol.md, "The database"), and the bridge's own.

The documented `users` and `connections` are views (`views.py`), so that a sign of life changes one short row.
The migrations hold frozen copies, and a test compares the two. Times are epoch milliseconds in UTC.

Columns keep the names of version 0.1.0: `column_name` maps a field whose name has changed since.
"""

from peewee import (
    SQL,
    BigAutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    CompositeKey,
    IntegerField,
    Model,
    TextField,
)


class UserRow(Model):
    """A user's state, as last published.

    `last_seen` is the time of the last change of this row; a live connection may have been seen later. So a
    sign of life without a change of state costs one write, not two distant ones (docs/performance.md).
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


# Pages of users in a state, and their number. On PostgreSQL the names are in collation "C" (migration 18).
UserRow.add_index(UserRow.state, UserRow.user_id, name="users_by_state")


class ConnectionRow(Model):
    """A connection record, with its `ActivityRow`; `login_time` is null while only the end is known (E1)."""

    id = BigAutoField()
    user_id = TextField()
    client_id = TextField()
    connection_id = TextField()
    client_named = BooleanField(column_name="named")
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
    network_id = BigIntegerField(null=True, column_name="peer")
    ended_by_broker = BooleanField(null=True, column_name="told")
    client_time = BigIntegerField(null=True)
    origin = TextField(null=True)
    opened_by = IntegerField(null=True)
    ended_by = IntegerField(null=True)
    corrected_by = IntegerField(null=True)
    corrected_at = BigIntegerField(null=True)
    unconfirmed_since = BigIntegerField(null=True)

    class Meta:
        table_name = "connection_records"
        indexes = ((("user_id", "client_id", "connection_id"), True),)


# The latest login of a client (L3, L4), found by one seek.
ConnectionRow.add_index(ConnectionRow.user_id, ConnectionRow.client_id, ConnectionRow.login_order)
# A user's history, for any number of clients (each page in a browser is one).
ConnectionRow.add_index(
    ConnectionRow.user_id,
    ConnectionRow.login_time,
    where=ConnectionRow.login_time.is_null(False),
    name="connections_of_user",
)
# The other indexes are partial: each holds only the rows that a job or a status needs.
# This one also holds all columns that a sign of life needs, so that the record need not be read.
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


class ActivityRow(Model):
    """The columns of a connection that its signs of life change.

    They have a table of their own because a database writes whole pages, and a batch changes far fewer pages
    of short rows (docs/performance.md). No index has these columns: each sign of life would change it, too.
    """

    id = BigIntegerField(primary_key=True)
    """The id of the connection's `ConnectionRow`."""
    last_seen = BigIntegerField()
    heartbeats = BooleanField()
    reports = BooleanField()
    idle = BooleanField(null=True)
    last_activity = BigIntegerField(null=True)

    class Meta:
        table_name = "pulses"


class HistoryRow(ConnectionRow):
    """A record that ended long ago, with its activity; `record_history.py` moves it here.

    Such a record does not change any more, so it needs few indexes. `id` is that of `connection_records`,
    where SQLite may use the number of a deleted row again. On PostgreSQL the table has a partition for each
    month of `logout_time`.
    """

    id = BigIntegerField()
    logout_time = BigIntegerField()
    live = None  # type: ignore[assignment]  # always false
    last_seen = BigIntegerField()
    heartbeats = BooleanField()
    reports = BooleanField()
    idle = BooleanField(null=True)
    last_activity = BigIntegerField(null=True)

    class Meta:
        table_name = "connection_history"
        primary_key = False
        indexes = ()


# The last column of each limits a page too, so that SQLite need not read the rows for that.
HistoryRow.add_index(
    HistoryRow.user_id, HistoryRow.login_time, HistoryRow.id, HistoryRow.logout_time, name="history_of_user"
)
HistoryRow.add_index(HistoryRow.logout_time, HistoryRow.id, HistoryRow.login_time, name="history_ended")


class BridgeRow(Model):
    """The bridge's named values, such as the version of `bridge/state`."""

    name = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "bridge"


class SeatRow(Model):
    """A seat: the place of a bridge at the broker and in the database (`seat.py`)."""

    id = IntegerField(primary_key=True)
    client_id = TextField()
    holder = TextField(null=True)
    """The process, for log messages; null when the seat is free. On SQLite the lock file names the holder."""
    since = BigIntegerField(null=True)
    epoch = BigIntegerField()
    """Incremented whenever a process takes the seat."""
    batch = BigIntegerField()
    """Incremented by each transaction of the holder."""
    expires_at = BigIntegerField(null=True)
    """The end of the lease, by the clock of the server."""
    release = TextField(null=True)
    """The release of the program that holds the seat, or held it last."""
    heard_until = BigIntegerField(null=True)
    """Every message that had reached the seat's session by then is processed; epoch milliseconds."""
    subscribed = BooleanField(null=True)
    """Whether the session has subscribed to its part of the messages."""
    leaving = BooleanField(null=True)
    """Whether the seat is being removed."""
    found_batch = BigIntegerField(null=True)
    """`batch` when the holder took the seat."""

    class Meta:
        table_name = "seats"


class StandbyRow(Model):
    """A process that waits for a seat of PostgreSQL."""

    node = TextField(primary_key=True)
    release = TextField()
    since = BigIntegerField()
    seen_at = BigIntegerField()
    """Its last sign of life, by the clock of the server, epoch milliseconds."""

    class Meta:
        table_name = "standbys"


class OutboxRow(Model):
    """The publications of a batch, written in its transaction and deleted when the broker has them."""

    id = BigAutoField()
    body = BlobField()
    seat = IntegerField(constraints=[SQL("DEFAULT 0")])

    class Meta:
        table_name = "outbox"


class ChangeRow(Model):
    """The users that a transaction has changed, kept for a while for streams (`change_log.py`).

    Ids have no gap, and transactions are committed in their order. The first row is the migration's, and has
    no user.
    """

    id = BigIntegerField(primary_key=True)
    time = BigIntegerField()
    total = BigIntegerField()
    """The size of all bodies so far, bytes: the difference of two rows is the size between them."""
    body = BlobField()

    class Meta:
        table_name = "changes"


class RedeliveryRow(Model):
    """The packet ids of a committed batch, while the broker may deliver its messages again."""

    number = BigIntegerField(primary_key=True)
    body = BlobField()

    class Meta:
        table_name = "redeliveries"


class TombstoneRow(Model):
    """A forgotten user, while the broker may still have the retained status, or have it again."""

    user_id = TextField(primary_key=True)
    cleared_at = BigIntegerField(null=True, column_name="buried_at")
    """When the broker acknowledged the empty status; null until then."""

    class Meta:
        table_name = "tombstones"


class NotificationRow(Model):
    """The notifications of one transaction, kept for `notify_keep`. The last row stays: ids only grow."""

    id = BigAutoField()
    at = BigIntegerField()
    """By the steady clock (`bridge/notifications/steady_clock.py`), milliseconds."""
    body = BlobField()

    class Meta:
        table_name = "notifications"


class ReceiverRow(Model):
    """The place of a receiver in `notifications`, and the state of its current request."""

    name = TextField(primary_key=True)
    next_row = BigIntegerField()
    """With `next_position`: the next notification, by its row and its place in that row."""
    next_position = IntegerField()
    sending_row = BigIntegerField(null=True)
    """With `sending_position`: the end of the request on its way, which a repetition keeps."""
    sending_position = IntegerField(null=True)
    generation = BigIntegerField()
    """Incremented by `notify replay`: a sender with an older one reads this row again."""
    attempts = IntegerField()
    """Failed attempts of the current request."""
    attempted_at = BigIntegerField(null=True)
    """The last failed attempt, by the steady clock, milliseconds."""
    delay_ms = BigIntegerField()
    reason = TextField(null=True)
    """Of the last failure; null after a success."""
    disabled = BooleanField()
    delivered = BigIntegerField()
    failed = BigIntegerField()
    """Notifications that were given up."""
    dropped = BigIntegerField()
    """Notifications that waited for longer than `notify_keep`."""

    class Meta:
        table_name = "notify_receivers"


class HeldRow(Model):
    """An alarm or all-clear that waits for the end of a receiver's quiet hours."""

    id = BigAutoField()
    receiver = TextField()
    outage = TextField()
    """The key that an alarm shares with its all-clear."""
    body = BlobField()

    class Meta:
        table_name = "notify_held"
        indexes = ((("receiver", "id"), False),)


class FailureRow(Model):
    """A notification that was given up."""

    id = BigAutoField()
    receiver = TextField()
    at = BigIntegerField()
    """Epoch milliseconds."""
    notification_id = TextField()
    user_id = TextField()
    event = TextField()
    attempts = IntegerField()
    reason = TextField()

    class Meta:
        table_name = "notify_failures"
        indexes = ((("receiver", "id"), False),)


class AlarmRow(Model):
    """An outage: a condition that holds for a user or a pattern of users, raised as an alarm or not yet."""

    condition = TextField()
    subject = TextField()
    since = BigIntegerField()
    """Epoch milliseconds."""
    due_at = BigIntegerField(null=True)
    """By the steady clock, milliseconds."""
    raised = BooleanField()
    times = TextField()
    """Of the last ends, for `flaps`: by the steady clock, milliseconds, as JSON."""

    class Meta:
        table_name = "notify_alarms"
        primary_key = CompositeKey("condition", "subject")


AlarmRow.add_index(AlarmRow.due_at, where=AlarmRow.due_at.is_null(False), name="notify_alarms_due")


TABLES = (
    UserRow,
    ConnectionRow,
    ActivityRow,
    HistoryRow,
    BridgeRow,
    SeatRow,
    StandbyRow,
    OutboxRow,
    ChangeRow,
    RedeliveryRow,
    TombstoneRow,
    NotificationRow,
    ReceiverRow,
    HeldRow,
    FailureRow,
    AlarmRow,
)
