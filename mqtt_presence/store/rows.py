"""Between rows and values: which column holds what."""

from collections.abc import Mapping, Sequence
from typing import Any

from mqtt_presence.model import (
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
from mqtt_presence.store.schema import ConnectionRow, UserRow

CONNECTION_FIELDS = [f for f in ConnectionRow._meta.sorted_fields if f.name != "id"]
USER_FIELDS = list(UserRow._meta.sorted_fields)

CONNECTION_COLUMNS = ", ".join(f"c.{f.column_name}" for f in [*CONNECTION_FIELDS, ConnectionRow.id])
USER_COLUMNS = ", ".join(f"u.{f.column_name}" for f in USER_FIELDS)

_FLAG = {None: None, 0: False, 1: True}  # SQLite has no booleans


def to_connection(row: Sequence[Any]) -> Connection:
    """Make a record of a row of `CONNECTION_COLUMNS`."""
    return Connection(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4] == 1,
        row[5],
        row[6],
        row[7],
        row[8],
        row[9],
        row[10],
        row[11],
        row[12] == 1,
        row[13],
        row[14] == 1,
        row[15] == 1,
        _FLAG[row[16]],
        row[17],
        row[18],
        None if row[19] is None else Reason(row[19]),
        row[20],
        None if row[22] is None else Cause(row[22]),
        row[23],
        row[24] == 1,
    )


def from_connection(record: Connection) -> tuple[Any, ...]:
    """Make a row of `CONNECTION_COLUMNS`."""
    return (
        record.user_id,
        record.client_id,
        record.connection_id,
        record.last_seen,
        record.named,
        record.login_time,
        record.login_order,
        record.opened_at,
        record.ip_addr,
        record.user_agent,
        record.idle_threshold_ms,
        record.timeout_ms,
        record.announce,
        record.meta,
        record.heartbeats,
        record.reports,
        record.idle,
        record.last_activity,
        record.logout_time,
        None if record.reason is None else record.reason.value,
        record.check_at,
        record.is_live,
        None if record.cause is None else record.cause.value,
        record.peer,
        record.told,
    )


ACTIVITY_FIELDS = (
    ConnectionRow.last_seen,
    ConnectionRow.heartbeats,
    ConnectionRow.reports,
    ConnectionRow.idle,
    ConnectionRow.last_activity,
    ConnectionRow.check_at,
)


def from_activity(record: Connection) -> tuple[Any, ...]:
    """Make the values of `ACTIVITY_FIELDS`."""
    return (
        record.last_seen,
        record.heartbeats,
        record.reports,
        record.idle,
        record.last_activity,
        record.check_at,
    )


def to_status(row: Sequence[Any]) -> Status:
    """Make a status of a row of `USER_COLUMNS`."""
    login = None
    if row[6] is not None:
        login = LastLogin(date=row[6], order=row[7], ip_addr=row[8], user_agent=row[9])
    return Status(
        state=State(row[1]), since=row[4], connections=row[5], last_activity=row[10], last_login=login
    )


def to_presence(
    row: Sequence[Any], connections: Mapping[Key, Connection], newest: Mapping[ClientId, int]
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
