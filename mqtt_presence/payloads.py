"""The payloads of the contract (sections 2 and 4): the one place that knows a JSON field name.

What clients send is decoded into the events of the rules, or refused whole; what the bridge sends is encoded
from the rules' results. `null` counts as absent.
"""

import math
import re
import uuid
from typing import Any

import msgspec
from msgspec import Struct

from mqtt_presence import topics
from mqtt_presence.errors import PayloadError
from mqtt_presence.model import (
    NO_META,
    Activity,
    ClientId,
    Connection,
    ConnectionEvent,
    ConnectionId,
    End,
    Login,
    Message,
    Reason,
    Status,
    UserEvent,
    UserId,
)
from mqtt_presence.times import from_iso, in_range, to_iso

MAX_PAYLOAD = 8 * 1024
TOO_LARGE = "too_large"
"""Why what is larger is refused."""
MAX_META = 2 * 1024
MAX_T0 = 64
MAX_CONNECTION_ID = 64
_CONNECTION_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,64}")
MAX_DURATION_S = 10 * 365 * 86_400.0

_ANY_END = topics.Input(UserId(""), ClientId(""), topics.LOGOUT)

_Id = str | None
_Time = int | float | str | None


class TimeRequest(Struct, frozen=True):
    """A client asks what time it is."""

    user_id: str
    client_id: str
    t0: bytes
    """JSON, handed back as it came."""
    t1: int
    """When it was received, epoch milliseconds."""


class _LoginIn(Struct, rename="camel", frozen=True, gc=False):
    connection_id: _Id = None
    time: _Time = None
    user_agent: str | None = None
    idle_threshold: int | float | None = None
    timeout: int | float | None = None
    announce: bool | None = None
    meta: msgspec.Raw = msgspec.Raw(b"null")


class _ActivityIn(Struct, rename="camel", frozen=True, gc=False):
    connection_id: _Id = None
    idle: bool | None = None
    last_activity: _Time = None


class _EndIn(Struct, rename="camel", frozen=True, gc=False):
    connection_id: _Id = None


class _TimeIn(Struct, frozen=True, gc=False):
    t0: msgspec.Raw = msgspec.Raw(b"null")


_decode_login = msgspec.json.Decoder(_LoginIn).decode
_decode_activity = msgspec.json.Decoder(_ActivityIn).decode
_decode_end = msgspec.json.Decoder(_EndIn).decode
_decode_time = msgspec.json.Decoder(_TimeIn).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def parse(
    name: topics.Input, payload: bytes, now: int, ip_addr: str | None = None, peer: int | None = None
) -> Message | TimeRequest:
    """Turn a client's message into an event.

    Args:
        name: what its topic said.
        payload: empty, or a JSON object.
        now: the bridge's clock on receipt, epoch milliseconds.
        ip_addr: where the broker says that client is connected from.
        peer: by which of the broker's connections, if it says.

    Raises:
        PayloadError: ``too_large`` or ``bad_payload``: not what contract section 2 says.

    """
    if len(payload) > MAX_PAYLOAD:
        raise PayloadError(TOO_LARGE, f"{len(payload)} bytes")
    try:
        if not payload.isascii():
            payload.decode()  # the decoder only skips over fields that it does not know, whatever is in them
        return _parse(name, payload or b"{}", now, ip_addr, peer)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise PayloadError("bad_payload", str(error)) from error


def _parse(
    name: topics.Input, payload: bytes, now: int, ip_addr: str | None, peer: int | None
) -> Message | TimeRequest:
    user_id, client_id, verb = name
    if verb == topics.ACTIVITY:
        sign = _decode_activity(payload)
        connection_id = _connection_id(sign.connection_id)
        return Activity(
            user_id=user_id,
            client_id=client_id,
            now=now,
            connection_id=connection_id,
            fresh_id=fresh_connection_id() if connection_id is None else None,
            ip_addr=ip_addr,
            idle=sign.idle,
            last_activity=_millis(sign.last_activity),
            peer=peer,
        )
    if verb == topics.LOGIN:
        login = _decode_login(payload)
        connection_id = _connection_id(login.connection_id)
        return Login(
            user_id=user_id,
            client_id=client_id,
            now=now,
            connection_id=connection_id,
            fresh_id=fresh_connection_id() if connection_id is None else None,
            time=_millis(login.time),
            ip_addr=ip_addr,
            user_agent=_text(login.user_agent),
            idle_threshold_ms=_duration_ms(login.idle_threshold),
            timeout_ms=_duration_ms(login.timeout),
            announce=login.announce,
            meta=_meta(login.meta),
            peer=peer,
        )
    if verb == topics.TIME:
        t0 = bytes(_decode_time(payload).t0)
        if len(t0) > MAX_T0:
            raise ValueError(f"t0 is {len(t0)} bytes of JSON, at most {MAX_T0}")
        _decode_any(t0)  # it is sent back: only what is whole JSON
        return TimeRequest(user_id, client_id, t0, now)
    return End(
        user_id=user_id,
        client_id=client_id,
        now=now,
        reason=Reason.LOGOUT if verb == topics.LOGOUT else Reason.LOST,
        connection_id=_connection_id(_decode_end(payload).connection_id),
    )


def connection_id_of(payload: bytes) -> ConnectionId | None:
    """Return which connection a client's message says it is about, whatever else it says; None: it does not.

    Raises:
        PayloadError: as `parse`, which would refuse it, too.

    """
    end = parse(_ANY_END, payload, 0)
    assert isinstance(end, End)
    return end.connection_id


def fresh_connection_id() -> ConnectionId:
    """Make up an id that no other connection has."""
    return ConnectionId(uuid.uuid4().hex)


def _connection_id(text: str | None) -> ConnectionId | None:
    if text is None:
        return None
    if _CONNECTION_ID.fullmatch(text) is None:
        raise ValueError(f"connectionId must be 1 to {MAX_CONNECTION_ID} characters, no control character")
    return ConnectionId(text)


def _millis(time: float | str | None) -> int | None:
    if time is None:
        return None
    return from_iso(time) if isinstance(time, str) else in_range(math.floor(time))


def _duration_ms(seconds: float | None) -> int | None:
    """Read a duration; 0 says that there is none."""
    if seconds is None:
        return None
    if not 0 <= seconds <= MAX_DURATION_S:
        raise ValueError(f"a duration of {seconds} seconds must be 0 to {MAX_DURATION_S:.0f}")
    return max(1, round(seconds * 1000)) if seconds else 0


def _text(text: str | None) -> str | None:
    # PostgreSQL can keep any character but this one.
    return text if text is None else text.replace("\0", "\ufffd")


def _meta(raw: msgspec.Raw) -> str | None:
    """Read an object as its text."""
    text = bytes(raw).strip()
    if text == b"null":
        return None
    if not text.startswith(b"{") or len(text) > MAX_META:
        raise ValueError(f"meta must be an object of at most {MAX_META} bytes")
    # Raw was only skipped over: keep nothing that is not whole JSON.
    return text.decode() if _decode_any(text) else NO_META


# What the bridge sends.


class _LastLoginOut(Struct, rename="camel", omit_defaults=True):
    date: str
    ip_addr: str | None = None
    user_agent: str | None = None


class _StatusOut(Struct, rename="camel", omit_defaults=True, kw_only=True):
    user_id: str
    state: str
    online: bool
    idle: bool | None = None
    since: str | None = None
    last_login: _LastLoginOut | None = None
    last_activity: str | None = None
    last_seen: str | None = None
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


class _ConnectionOut(Struct, rename="camel", omit_defaults=True, kw_only=True):
    user_id: str
    client_id: str
    connection_id: str
    login_time: str | None = None
    logout_time: str | None = None
    reason: str | None = None
    cause: str | None = None
    idle: bool | None = None
    last_activity: str | None = None
    last_seen: str | None = None
    ip_addr: str | None = None
    user_agent: str | None = None
    meta: msgspec.Raw | None = None


class _BridgeStateOut(Struct, rename="camel"):
    state: str
    version: int
    started_at: str


def _iso(millis: int | None) -> str | None:
    return None if millis is None else to_iso(millis)


def encode_status(
    user_id: str, status: Status, *, version: int, last_seen: int | None, private: bool = False
) -> bytes:
    """Write the payload of ``status/<user>``.

    Args:
        user_id: whose.
        status: the state.
        version: of this publication.
        last_seen: epoch milliseconds.
        private: say also addresses and user agents (setting `publish_private`).

    """
    last = status.last_login
    login = None
    if last is not None:
        login = _LastLoginOut(
            to_iso(last.date), last.ip_addr if private else None, last.user_agent if private else None
        )
    return _encode(
        _StatusOut(
            user_id=user_id,
            state=status.state.value,
            online=status.online,
            idle=status.idle,
            since=_iso(status.since),
            last_login=login,
            last_activity=_iso(status.last_activity),
            last_seen=_iso(last_seen),
            connections=status.connections,
            version=version,
        )
    )


def encode_connection(record: Connection, *, private: bool) -> bytes:
    """Write a record as programs read it: the columns of contract section 5 in the spelling of section 4.

    Args:
        record: of the database.
        private: say also address, user agent and meta.

    """
    return _encode(
        _ConnectionOut(
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
            ip_addr=record.ip_addr if private else None,
            user_agent=record.user_agent if private else None,
            meta=msgspec.Raw(record.meta.encode()) if private and record.meta is not None else None,
        )
    )


def encode_event(event: ConnectionEvent | UserEvent, version: int) -> bytes:
    """Write the payload of ``events/<user>/<event>``.

    Args:
        event: what happened.
        version: of the user's status that goes with it.

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


def encode_bridge_state(state: str, version: int, started_at: int) -> bytes:
    """Write the payload of ``bridge/state``.

    Args:
        state: ``online`` or ``offline``.
        version: grows with every publication, so that the one that is later can be told.
        started_at: when this bridge was started, epoch milliseconds.

    """
    return _encode(_BridgeStateOut(state, version, to_iso(started_at)))


def encode_time_reply(request: TimeRequest, sent_at: int) -> bytes:
    """Write the answer to a time request.

    Args:
        request: what was asked.
        sent_at: t2, epoch milliseconds.

    """
    return _encode({"t0": msgspec.Raw(request.t0), "t1": request.t1, "t2": sent_at})


def decode_object(payload: bytes) -> dict[str, Any]:
    """Read a JSON object, whatever its fields.

    Raises:
        PayloadError: ``bad_payload``, it is none.

    """
    try:
        return msgspec.json.decode(payload, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise PayloadError("bad_payload", str(error)) from error
