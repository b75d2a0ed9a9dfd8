"""Decoding of clients' messages into events of the rules, on the side of the bridge.

A message is decoded whole or refused whole. `null` counts as absent, and unknown fields are ignored
(docs/protocol.md).
"""

import math
import re
import uuid
from typing import Any

import msgspec
from msgspec import Struct

from mqtt_presence.errors import PayloadError
from mqtt_presence.protocol import topics
from mqtt_presence.protocol.sizes import (
    MAX_CONNECTION_ID,
    MAX_DURATION_S,
    MAX_META,
    MAX_PAYLOAD,
    MAX_T0,
    TOO_LARGE,
)
from mqtt_presence.protocol.times import from_iso, in_range
from mqtt_presence.rules.events import Activity, End, Login, Message
from mqtt_presence.rules.model import NO_META, ClientId, ConnectionId, Reason, UserId

_CONNECTION_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,64}")
_ANY_END = topics.Input(UserId(""), ClientId(""), topics.LOGOUT)
_Id = str | None
_Time = int | float | str | None


class TimeRequest(Struct, frozen=True):
    """A client asks for the server time."""

    user_id: str
    client_id: str
    t0: bytes
    """JSON text, which the reply repeats byte for byte."""
    t1: int
    """When the bridge received the request, epoch milliseconds."""


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


def parse(
    name: topics.Input, payload: bytes, now: int, ip_addr: str | None = None, network_id: int | None = None
) -> Message | TimeRequest:
    """Return the event of a client's message.

    Args:
        name: the parsed topic.
        payload: the payload, empty or a JSON object.
        now: the bridge's clock on receipt, epoch milliseconds.
        ip_addr: the client's address, if the broker reports it.
        network_id: the broker's network connection of the client, if the broker reports it.

    Raises:
        PayloadError: the payload is ``too_large``, or a ``bad_payload``.

    """
    if len(payload) > MAX_PAYLOAD:
        raise PayloadError(TOO_LARGE, f"{len(payload)} bytes")
    try:
        if not payload.isascii():
            payload.decode()  # The decoder skips unknown fields without checking their encoding.
        return _parse(name, payload or b"{}", now, ip_addr, network_id)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise PayloadError("bad_payload", str(error)) from error


def _parse(
    name: topics.Input, payload: bytes, now: int, ip_addr: str | None, network_id: int | None
) -> Message | TimeRequest:
    user_id, client_id, verb = name
    if verb == topics.ACTIVITY:
        activity = _decode_activity(payload)
        connection_id = _connection_id(activity.connection_id)
        return Activity(
            user_id=user_id,
            client_id=client_id,
            now=now,
            connection_id=connection_id,
            fresh_id=fresh_connection_id() if connection_id is None else None,
            ip_addr=ip_addr,
            idle=activity.idle,
            last_activity=_millis(activity.last_activity),
            network_id=network_id,
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
            network_id=network_id,
        )
    if verb == topics.TIME:
        t0 = bytes(_decode_time(payload).t0)
        if len(t0) > MAX_T0:
            raise ValueError(f"t0 is {len(t0)} bytes of JSON, at most {MAX_T0}")
        _decode_any(t0)  # The reply repeats it, so it must be valid JSON.
        return TimeRequest(user_id, client_id, t0, now)
    return End(
        user_id=user_id,
        client_id=client_id,
        now=now,
        reason=Reason.LOGOUT if verb == topics.LOGOUT else Reason.LOST,
        connection_id=_connection_id(_decode_end(payload).connection_id),
    )


def connection_id_of(payload: bytes) -> ConnectionId | None:
    """Return the connection id in a payload of any verb; None without one.

    Raises:
        PayloadError: `parse` would refuse the payload, too.

    """
    end = parse(_ANY_END, payload, 0)
    assert isinstance(end, End)
    return end.connection_id


def fresh_connection_id() -> ConnectionId:
    """Return a new, unique connection id."""
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
    """Return a duration in milliseconds; 0 clears the known one."""
    if seconds is None:
        return None
    if not 0 <= seconds <= MAX_DURATION_S:
        raise ValueError(f"a duration of {seconds} seconds must be 0 to {MAX_DURATION_S:.0f}")
    return max(1, round(seconds * 1000)) if seconds else 0


def _text(text: str | None) -> str | None:
    # PostgreSQL stores any character but U+0000.
    return text if text is None else text.replace("\0", "\ufffd")


def _meta(raw: msgspec.Raw) -> str | None:
    """Return the JSON text of an object."""
    text = bytes(raw).strip()
    if text == b"null":
        return None
    if not text.startswith(b"{") or len(text) > MAX_META:
        raise ValueError(f"meta must be an object of at most {MAX_META} bytes")
    # The decoder skipped the raw value without checking it, and only valid JSON may be stored.
    return text.decode() if _decode_any(text) else NO_META


def decode_object(payload: bytes) -> dict[str, Any]:
    """Return a JSON object with any fields.

    Raises:
        PayloadError: ``bad_payload``, the payload is no JSON object.

    """
    try:
        return msgspec.json.decode(payload, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise PayloadError("bad_payload", str(error)) from error
