"""Version 17 of the schema: notifications, their receivers, and alarms."""

from typing import Any

from peewee import (
    BigAutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    CompositeKey,
    IntegerField,
    Model,
    TextField,
)


class NotificationRow(Model):
    id = BigAutoField()
    at = BigIntegerField()
    body = BlobField()

    class Meta:
        table_name = "notifications"


class ReceiverRow(Model):
    name = TextField(primary_key=True)
    next_row = BigIntegerField()
    next_position = IntegerField()
    sending_row = BigIntegerField(null=True)
    sending_position = IntegerField(null=True)
    generation = BigIntegerField()
    attempts = IntegerField()
    attempted_at = BigIntegerField(null=True)
    delay_ms = BigIntegerField()
    reason = TextField(null=True)
    disabled = BooleanField()
    delivered = BigIntegerField()
    failed = BigIntegerField()
    dropped = BigIntegerField()

    class Meta:
        table_name = "notify_receivers"


class HeldRow(Model):
    id = BigAutoField()
    receiver = TextField()
    outage = TextField()
    body = BlobField()

    class Meta:
        table_name = "notify_held"
        indexes = ((("receiver", "id"), False),)


class FailureRow(Model):
    id = BigAutoField()
    receiver = TextField()
    at = BigIntegerField()
    notification_id = TextField()
    user_id = TextField()
    event = TextField()
    attempts = IntegerField()
    reason = TextField()

    class Meta:
        table_name = "notify_failures"
        indexes = ((("receiver", "id"), False),)


class AlarmRow(Model):
    condition = TextField()
    subject = TextField()
    since = BigIntegerField()
    due_at = BigIntegerField(null=True)
    raised = BooleanField()
    times = TextField()

    class Meta:
        table_name = "notify_alarms"
        primary_key = CompositeKey("condition", "subject")


AlarmRow.add_index(AlarmRow.due_at, where=AlarmRow.due_at.is_null(False), name="notify_alarms_due")


def up(_migrator: Any, db: Any) -> None:
    """Create the tables."""
    for table in (NotificationRow, ReceiverRow, HeldRow, FailureRow, AlarmRow):
        table.bind(db)
        table.create_table()
