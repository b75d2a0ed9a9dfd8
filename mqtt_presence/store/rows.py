"""Conversions between database rows and the values of the rules."""

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
    Rule,
    State,
    Status,
    UserId,
    UserPresence,
)
from mqtt_presence.store.schema import ActivityRow, ConnectionRow, UserRow

ACTIVITY_FIELDS = (
    ActivityRow.last_seen,
    ActivityRow.heartbeats,
    ActivityRow.reports,
    ActivityRow.idle,
    ActivityRow.last_activity,
)
"""The columns that a sign of life may change, except `check_at`."""
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
    ConnectionRow.client_named,
    ConnectionRow.login_time,
    ConnectionRow.ip_addr,
    ConnectionRow.user_agent,
    ConnectionRow.announce,
    ConnectionRow.meta,
    ConnectionRow.reason,
    ConnectionRow.cause,
    ConnectionRow.network_id,
    ConnectionRow.ended_by_broker,
    ConnectionRow.client_time,
    ConnectionRow.origin,
    ConnectionRow.opened_by,
    ConnectionRow.ended_by,
    ConnectionRow.corrected_by,
    ConnectionRow.corrected_at,
    ConnectionRow.unconfirmed_since,
    ConnectionRow.live,
)
"""The other columns of a connection."""
USER_FIELDS = tuple(UserRow._meta.sorted_fields)

# The columns of a value and then the row id: from both tables (r, p), or from their view (c).
_COLUMN = {f.name: f"r.{f.column_name}" for f in RECORD_FIELDS}
_COLUMN |= {f.name: f"p.{f.column_name}" for f in ACTIVITY_FIELDS}
ACTIVITY_COLUMNS = ", ".join((*(_COLUMN[name] for name in ActivityState.__struct_fields__), "r.id"))
CONNECTION_COLUMNS = ", ".join(
    (*(f"c.{_COLUMN[name].partition('.')[2]}" for name in Connection.__struct_fields__), "c.id")
)
LIVE_COLUMNS = ", ".join((*(_COLUMN[name] for name in Connection.__struct_fields__), "r.id"))
USER_COLUMNS = ", ".join(f"u.{f.column_name}" for f in USER_FIELDS)

ANNOUNCED_AT = "announced_at"
"""The name of a value of the bridge: the time of an announcement, while answers are due."""
HISTORY_LONGEST = "history_longest"
"""The name of a value of the bridge: the longest time between login and end in the history, milliseconds."""
VERSION_FLOOR = "version_floor"
"""The name of a value of the bridge: the greatest version of any forgotten user. New users go on from it."""

_FLAG = {None: None, 0: False, 1: True}  # SQLite has no booleans


_RULE: Mapping[int | None, Rule | None] = {None: None, **{rule.value: rule for rule in Rule}}


# Column by column: slices would be shorter, but take twice the time for each row of each batch.


def to_connection(row: Sequence[Any]) -> Connection:
    """Return the record in a row of `CONNECTION_COLUMNS`."""
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
        _RULE[row[26]],
        _RULE[row[27]],
        _RULE[row[28]],
        row[29],
        row[30],
    )


def from_connection(record: Connection) -> tuple[Any, ...]:
    """Return the values of `RECORD_FIELDS`."""
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
        record.client_named,
        record.login_time,
        record.ip_addr,
        record.user_agent,
        record.announce,
        record.meta,
        None if record.reason is None else record.reason.value,
        None if record.cause is None else record.cause.value,
        record.network_id,
        record.ended_by_broker,
        record.client_time,
        record.origin,
        # As plain numbers: psycopg writes the name of an enum's member.
        None if record.opened_by is None else record.opened_by.value,
        None if record.ended_by is None else record.ended_by.value,
        None if record.corrected_by is None else record.corrected_by.value,
        record.corrected_at,
        record.unconfirmed_since,
        record.is_live,
    )


def to_activity_state(row: Sequence[Any]) -> ActivityState:
    """Return the connection in a row of `ACTIVITY_COLUMNS`."""
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


def key_of(state: ActivityState) -> tuple[str, str, str]:
    """Return the key of a connection among all users' connections."""
    return state.user_id, state.client_id, state.connection_id


def from_activity(state: ActivityState) -> tuple[Any, ...]:
    """Return the values of `ACTIVITY_FIELDS`."""
    return (state.last_seen, state.heartbeats, state.reports, state.idle, state.last_activity)


def to_status(row: Sequence[Any]) -> Status:
    """Return the status in a row of `USER_COLUMNS`."""
    login = None
    if row[6] is not None:
        login = LastLogin(date=row[6], order=row[7], ip_addr=row[8], user_agent=row[9])
    return Status(
        state=State(row[1]), since=row[4], connections=row[5], last_activity=row[10], last_login=login
    )


def to_presence(
    row: Sequence[Any],
    connections: Mapping[Key, Connection],
    latest_login: Mapping[ClientId, int],
    latest_login_time: Mapping[ClientId, int] | None = None,
) -> UserPresence:
    """Return the user in a row of `USER_COLUMNS`, with records and latest logins."""
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
        latest_login=latest_login,
        latest_login_time=latest_login_time or {},
    )


def from_user(user: UserPresence, status: Status) -> tuple[Any, ...]:
    """Return the values of `USER_FIELDS`."""
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
