"""Between rows and values: which column holds what."""

from collections.abc import Mapping, Sequence
from typing import Any

from peewee import Field

from mqtt_presence.rules.model import (
    ActivityState,
    Cause,
    ClientId,
    Connection,
    Key,
    LastLogin,
    Reason,
    State,
    Status,
    UserId,
    UserPresence,
)
from mqtt_presence.store.schema import ConnectionRow, PulseRow, UserRow

ACTIVITY_FIELDS = (
    PulseRow.last_seen,
    PulseRow.heartbeats,
    PulseRow.reports,
    PulseRow.idle,
    PulseRow.last_activity,
)
"""What a sign of life may change, but for `check_at`."""
RECORD_FIELDS: tuple[Field, ...] = (
    ConnectionRow.user_id,
    ConnectionRow.client_id,
    ConnectionRow.connection_id,
    ConnectionRow.login_order,
    ConnectionRow.opened_at,
    ConnectionRow.idle_threshold_ms,
    ConnectionRow.timeout_ms,
    ConnectionRow.logout_time,
    ConnectionRow.check_at,
    ConnectionRow.named,
    ConnectionRow.login_time,
    ConnectionRow.ip_addr,
    ConnectionRow.user_agent,
    ConnectionRow.announce,
    ConnectionRow.meta,
    ConnectionRow.reason,
    ConnectionRow.cause,
    ConnectionRow.peer,
    ConnectionRow.told,
    ConnectionRow.client_time,
    ConnectionRow.origin,
    ConnectionRow.live,
)
"""The rest of a connection."""
USER_FIELDS = tuple(UserRow._meta.sorted_fields)

# What makes a value, and the number by which the row is found again: of both tables, and of the view of them.
_TABLE = {field.column_name: "r" for field in RECORD_FIELDS} | {f.column_name: "p" for f in ACTIVITY_FIELDS}
PULSE_COLUMNS = ", ".join((*(f"{_TABLE[name]}.{name}" for name in ActivityState.__struct_fields__), "r.id"))
CONNECTION_COLUMNS = ", ".join(f"c.{name}" for name in (*Connection.__struct_fields__, "id"))
USER_COLUMNS = ", ".join(f"u.{f.column_name}" for f in USER_FIELDS)

VERSION_FLOOR = "version_floor"
"""The greatest version of any user who was forgotten: there the versions of newcomers begin."""

_FLAG = {None: None, 0: False, 1: True}  # SQLite has no booleans


# Column by column, which reads longer than slices but takes half the time, for each row of each batch.


def to_connection(row: Sequence[Any]) -> Connection:
    """Make a record of a row of `CONNECTION_COLUMNS`."""
    return Connection(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        row[6],
        row[7],
        row[8] == 1,
        row[9] == 1,
        _FLAG[row[10]],
        row[11],
        row[12],
        row[13],
        row[14] == 1,
        row[15],
        row[16],
        row[17],
        row[18] == 1,
        row[19],
        None if row[20] is None else Reason(row[20]),
        None if row[21] is None else Cause(row[21]),
        row[22],
        row[23] == 1,
        row[24],
        row[25],
    )


def from_connection(record: Connection) -> tuple[Any, ...]:
    """Make the values of `RECORD_FIELDS`."""
    return (
        record.user_id,
        record.client_id,
        record.connection_id,
        record.login_order,
        record.opened_at,
        record.idle_threshold_ms,
        record.timeout_ms,
        record.logout_time,
        record.check_at,
        record.named,
        record.login_time,
        record.ip_addr,
        record.user_agent,
        record.announce,
        record.meta,
        None if record.reason is None else record.reason.value,
        None if record.cause is None else record.cause.value,
        record.peer,
        record.told,
        record.client_time,
        record.origin,
        record.is_live,
    )


def to_pulse(row: Sequence[Any]) -> ActivityState:
    """Make what a sign of life must know of a row of `PULSE_COLUMNS`."""
    return ActivityState(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        row[6],
        row[7],
        row[8] == 1,
        row[9] == 1,
        _FLAG[row[10]],
        row[11],
        row[12],
        row[13],
    )


def names_of(pulse: ActivityState) -> tuple[str, str, str]:
    """Tell what names a connection among those of all users."""
    return pulse.user_id, pulse.client_id, pulse.connection_id


def from_activity(pulse: ActivityState) -> tuple[Any, ...]:
    """Make the values of `ACTIVITY_FIELDS`."""
    return (pulse.last_seen, pulse.heartbeats, pulse.reports, pulse.idle, pulse.last_activity)


def to_status(row: Sequence[Any]) -> Status:
    """Make a status of a row of `USER_COLUMNS`."""
    login = None
    if row[6] is not None:
        login = LastLogin(date=row[6], order=row[7], ip_addr=row[8], user_agent=row[9])
    return Status(
        state=State(row[1]), since=row[4], connections=row[5], last_activity=row[10], last_login=login
    )


def to_presence(
    row: Sequence[Any],
    connections: Mapping[Key, Connection],
    newest: Mapping[ClientId, int],
    newest_time: Mapping[ClientId, int] | None = None,
) -> UserPresence:
    """Make what the rules need of a row of `USER_COLUMNS` and the user's records."""
    seen = row[11]
    for record in connections.values():
        if seen is None or record.last_seen > seen:
            seen = record.last_seen
    return UserPresence(
        user_id=UserId(row[0]),
        status=to_status(row),
        last_seen=seen,
        version=row[12],
        connections=connections,
        newest=newest,
        newest_time=newest_time or {},
    )


def from_user(user: UserPresence, status: Status) -> tuple[Any, ...]:
    """Make a row of `USER_COLUMNS`."""
    login = status.last_login
    return (
        user.user_id,
        status.state.value,
        status.online,
        status.idle,
        status.since,
        status.connections,
        None if login is None else login.date,
        None if login is None else login.order,
        None if login is None else login.ip_addr,
        None if login is None else login.user_agent,
        status.last_activity,
        user.last_seen,
        user.version,
    )
