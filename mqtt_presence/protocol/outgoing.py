"""Encoding of the bridge's messages: statuses, events, bridge state and time replies.

Absent values are left out (docs/protocol.md, "The user's status" and "Events").
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from mqtt_presence.protocol.incoming import TimeRequest
from mqtt_presence.protocol.times import to_iso
from mqtt_presence.rules.model import (
    Cause,
    Connection,
    ConnectionEvent,
    Reason,
    State,
    Status,
    UserEvent,
)

_encode = msgspec.json.Encoder().encode

Time: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""A time as in `to_iso`."""


class LastLoginOut(Struct, rename="camel", omit_defaults=True):
    """The latest login in a status."""

    date: Time
    ip_addr: str | None = None
    user_agent: str | None = None


class StatusOut(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A status as on MQTT."""

    user_id: str
    state: State
    online: bool
    idle: bool | None = None
    since: Time | None = None
    last_login: LastLoginOut | None = None
    last_activity: Time | None = None
    last_seen: Time | None = None
    connections: int
    version: int


class _EventOut(Struct, rename="camel", omit_defaults=True):
    user_id: str
    connection_id: str | None = None
    client_id: str | None = None
    ip_addr: str | None = None
    user_agent: str | None = None
    login_time: str | None = None
    logout_time: str | None = None
    last_activity: str | None = None
    reason: str | None = None
    cause: str | None = None
    version: int | None = None
    time: str | None = None
    connections: int | None = None


class _OutageOut(Struct, rename="camel", omit_defaults=True):
    user_id: str
    condition: str
    since: str
    time: str
    count: int | None = None


class ConnectionOut(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A connection, with the field names of the events."""

    user_id: str
    client_id: str
    connection_id: str
    login_time: Time | None = None
    logout_time: Time | None = None
    reason: Reason | None = None
    cause: Cause | None = None
    idle: bool | None = None
    last_activity: Time | None = None
    last_seen: Time | None = None
    unconfirmed: bool = False
    ip_addr: str | None = None
    user_agent: str | None = None
    meta: msgspec.Raw | None = None


class ForgottenOut(Struct, rename="camel"):
    """A user that was forgotten."""

    user_id: str


class LossOut(Struct, rename="camel", omit_defaults=True):
    """A loss of the database; times as on MQTT, None for unknown ones."""

    noticed_at: str
    after: str | None = None
    until: str | None = None
    transactions: int | None = None


class _BridgeStateOut(Struct, rename="camel", omit_defaults=True):
    state: str
    version: int
    started_at: str
    seats: int | None = None
    seats_held: int | None = None
    database_loss: LossOut | None = None


class HealthOut(Struct, rename="camel"):
    """The content of ``bridge/health`` (docs/protocol.md, "Bridge topics")."""

    state: str
    version: int
    users: int
    connections: int
    outbox: int
    behind_ms: int
    refused: int
    changes: int
    change_log: str


def _iso(millis: int | None) -> str | None:
    return None if millis is None else to_iso(millis)


def status_out(
    user_id: str, status: Status, *, version: int, last_seen: int | None, private: bool = False
) -> StatusOut:
    """Return the fields of a status.

    Args:
        user_id: the user.
        status: the user's status.
        version: the version of this publication.
        last_seen: the user's last sign of life, epoch milliseconds.
        private: whether to include addresses and user agents (setting `publish_private`).

    """
    last = status.last_login
    login = None
    if last is not None:
        login = LastLoginOut(
            to_iso(last.date), last.ip_addr if private else None, last.user_agent if private else None
        )
    return StatusOut(
        user_id=user_id,
        state=status.state,
        online=status.online,
        idle=status.idle,
        since=_iso(status.since),
        last_login=login,
        last_activity=_iso(status.last_activity),
        last_seen=_iso(last_seen),
        connections=status.connections,
        version=version,
    )


def encode_status(
    user_id: str, status: Status, *, version: int, last_seen: int | None, private: bool = False
) -> bytes:
    """Encode the payload of ``status/<user>``; for the arguments see `status_out`."""
    return _encode(status_out(user_id, status, version=version, last_seen=last_seen, private=private))


def encode_forgotten(user_id: str) -> bytes:
    """Encode the name of a forgotten user."""
    return _encode(ForgottenOut(user_id))


def connection_out(record: Connection, *, private: bool) -> ConnectionOut:
    """Return the fields of a record for the HTTP API and the commands.

    Args:
        record: the record.
        private: whether to include address, user agent and meta.

    """
    return ConnectionOut(
        user_id=record.user_id,
        client_id=record.client_id,
        connection_id=record.connection_id,
        login_time=_iso(record.login_time),
        logout_time=_iso(record.logout_time),
        reason=record.reason,
        cause=record.cause,
        idle=record.idle,
        last_activity=_iso(record.last_activity),
        last_seen=_iso(record.last_seen),
        unconfirmed=record.is_open and record.unconfirmed_since is not None,
        ip_addr=record.ip_addr if private else None,
        user_agent=record.user_agent if private else None,
        meta=msgspec.Raw(record.meta.encode()) if private and record.meta is not None else None,
    )


def encode_connection(record: Connection, *, private: bool) -> bytes:
    """Encode a record; for the arguments see `connection_out`."""
    return _encode(connection_out(record, private=private))


def encode_event(event: ConnectionEvent | UserEvent, version: int) -> bytes:
    """Encode the payload of ``events/<user>/<event>``.

    Args:
        event: the event.
        version: the version of the user's status after the event.

    """
    if isinstance(event, UserEvent):
        return _encode(
            _EventOut(
                user_id=event.user_id,
                version=version,
                time=to_iso(event.time),
                connections=event.connections,
            )
        )
    record = event.connection
    out = _EventOut(user_id=record.user_id, connection_id=record.connection_id, client_id=record.client_id)
    if event.name == "connectionLogin":
        out.ip_addr = record.ip_addr
        out.user_agent = record.user_agent
        out.login_time = _iso(record.login_time)
    elif event.name == "connectionLogout":
        out.logout_time = _iso(record.logout_time)
        out.last_activity = _iso(record.last_activity) if record.idle else None
        out.reason = record.reason
        out.cause = record.cause
    else:
        out.last_activity = _iso(record.last_activity)
    return _encode(out)


def encode_outage(subject: str, condition: str, *, since: int, time: int, count: int | None) -> bytes:
    """Encode the payload of ``events/<user>/alarm`` and ``events/<user>/allClear``.

    Args:
        subject: the user, or the pattern of users.
        condition: the condition that holds, or no longer holds, as in the settings.
        since: when it began to hold, epoch milliseconds.
        time: when the alarm was raised or cleared, epoch milliseconds.
        count: the number of users online, or of ends; None for other conditions.

    """
    return _encode(_OutageOut(subject, condition, to_iso(since), to_iso(time), count))


def encode_bridge_state(
    state: str,
    version: int,
    started_at: int,
    seats: int | None = None,
    seats_held: int | None = None,
    loss: LossOut | None = None,
) -> bytes:
    """Encode the payload of ``bridge/state``.

    Args:
        state: ``online`` or ``offline``.
        version: a number that grows with every publication, so that readers recognise the latest.
        started_at: when this bridge was started, epoch milliseconds.
        seats: the number of seats; None: not known any more.
        seats_held: the number of those that a process holds.
        loss: the last loss of the database; None: there is none to show.

    """
    return _encode(_BridgeStateOut(state, version, to_iso(started_at), seats, seats_held, loss))


def encode_announcement(within_s: float) -> bytes:
    """Encode the payload of ``bridge/announce``.

    Args:
        within_s: the time over which clients spread their answers, seconds; 0: they answer at once.

    """
    return _encode({"within": within_s} if within_s else {})


def encode_health(health: HealthOut) -> bytes:
    """Encode the payload of ``bridge/health``."""
    return _encode(health)


def encode_time_reply(request: TimeRequest, sent_at: int) -> bytes:
    """Encode the reply to a time request.

    Args:
        request: the request.
        sent_at: when the reply is sent (t2), epoch milliseconds.

    """
    return _encode({"t0": msgspec.Raw(request.t0), "t1": request.t1, "t2": sent_at})
