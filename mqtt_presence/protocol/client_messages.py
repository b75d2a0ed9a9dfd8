"""Payloads on the side of a client: messages to the bridge are encoded, and messages of the bridge decoded.

Decoding requires the documented fields and ignores unknown ones, so that a client works with a newer bridge.
The bridge's side is in `incoming` and `outgoing`.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from mqtt_presence.errors import ConfigError, PayloadError
from mqtt_presence.protocol.sizes import MAX_META, MAX_PAYLOAD, MAX_WITHIN_S
from mqtt_presence.protocol.times import LATEST, to_iso
from mqtt_presence.rules.model import State

_Moment = Annotated[datetime, Meta(tz=True)]
_Count = Annotated[int, Meta(ge=0)]
_Millis = Annotated[int, Meta(ge=0, le=LATEST)]

# Messages of the bridge.


class LoginInfo(Struct, frozen=True, rename="camel"):
    """A user's latest login; address and user agent only where the setting `publish_private` is on."""

    date: _Moment
    ip_addr: str | None = None
    user_agent: str | None = None


class UserStatus(Struct, frozen=True, kw_only=True, rename="camel"):
    """The content of ``status/<user>``. Times are in UTC; None means unknown or not applicable."""

    user_id: str
    state: State
    """``online``, ``idle`` or ``offline``."""
    online: bool
    """Whether at least one connection is live, idle or not."""
    idle: bool | None = None
    """Whether all live connections are idle; None when offline."""
    since: _Moment | None = None
    """When `state` last changed."""
    last_login: LoginInfo | None = None
    last_activity: _Moment | None = None
    """The latest activity, present only while idle."""
    last_seen: _Moment | None = None
    connections: _Count = 0
    version: _Count
    """Incremented with every publication of this user."""

    def to_dict(self, *, private: bool = True) -> dict[str, Any]:
        """Return the status as on MQTT, for JSON: camelCase names, ISO 8601 times, absent values left out.

        Args:
            private: keep address and user agent, if the bridge publishes them.

        """
        status = self
        if not private and status.last_login is not None:
            status = structs.replace(status, last_login=LoginInfo(status.last_login.date))
        return _plain(msgspec.to_builtins(status, builtin_types=(datetime,)))


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, datetime):
            plain[name] = to_iso(millis(value))
        elif isinstance(value, dict):
            plain[name] = _plain(value)
        elif value is not None:
            plain[name] = value
    return plain


def millis(moment: datetime) -> int:
    """Return a time in epoch milliseconds."""
    return round(moment.timestamp() * 1000)


class BridgeStateName(StrEnum):
    """Whether the bridge is connected to the broker."""

    ONLINE = "online"
    OFFLINE = "offline"


class BridgeState(Struct, frozen=True, rename="camel"):
    """The content of ``bridge/state``."""

    state: BridgeStateName
    version: _Count = 0
    started_at: _Moment | None = None


class _Announcement(Struct, frozen=True):
    within: object = 0


class TimeReply(Struct, frozen=True):
    """The content of ``reply/<user>/<client>/time``."""

    t0: int
    """The `t0` of the request, see `encode_time_request`."""
    t1: _Millis
    """When the bridge received the request, epoch milliseconds."""
    t2: _Millis
    """When the bridge sent the reply, epoch milliseconds."""


_status_decoder = msgspec.json.Decoder(UserStatus)
_bridge_decoder = msgspec.json.Decoder(BridgeState)
_announcement_decoder = msgspec.json.Decoder(_Announcement)
_reply_decoder = msgspec.json.Decoder(TimeReply)


def _decode(decoder: "msgspec.json.Decoder[Any]", payload: bytes) -> Any:
    if len(payload) > MAX_PAYLOAD:
        raise PayloadError("too_large", f"{len(payload)} bytes")
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise PayloadError("bad_payload", str(error)) from error


def decode_status(user_id: str, payload: bytes) -> UserStatus:
    """Decode the payload of ``status/<user>``.

    Args:
        user_id: the user in the topic.
        payload: the payload, not empty; an empty one means that the user was forgotten.

    Raises:
        PayloadError: the payload is no status, or the status of another user.

    """
    status: UserStatus = _decode(_status_decoder, payload)
    if status.user_id != user_id:
        raise PayloadError("bad_payload", f"userId {status.user_id!r} under the topic of {user_id!r}")
    return status


def decode_bridge_state(payload: bytes) -> BridgeState:
    """Decode the payload of ``bridge/state``.

    Raises:
        PayloadError: the payload is no bridge state.

    """
    state: BridgeState = _decode(_bridge_decoder, payload)
    return state


def decode_announcement(payload: bytes) -> float:
    """Return the seconds within which clients answer an announcement: the payload of ``bridge/announce``.

    At most an hour. 0, at once, for everything that is no such time: an announcement must not stay without
    an answer.
    """
    try:
        within = _decode(_announcement_decoder, payload).within
    except PayloadError:
        return 0.0
    is_number = isinstance(within, int | float) and not isinstance(within, bool)
    return float(min(within, MAX_WITHIN_S)) if is_number and within > 0 else 0.0


def decode_time_reply(payload: bytes) -> TimeReply:
    """Decode the payload of ``reply/<user>/<client>/time``.

    Raises:
        PayloadError: the payload is no time reply, or `t2` is before `t1`.

    """
    reply: TimeReply = _decode(_reply_decoder, payload)
    if reply.t2 < reply.t1:
        raise PayloadError("bad_payload", "t2 lies before t1")
    return reply


# Messages to the bridge.


class _LoginOut(Struct, rename="camel", omit_defaults=True):
    connection_id: str
    time: int | None = None
    user_agent: str | None = None
    idle_threshold: float | None = None
    timeout: float | None = None
    announce: bool | UnsetType = UNSET  # written even if false: an absent field keeps the known value
    meta: msgspec.Raw | UnsetType = UNSET


class _ActivityOut(Struct, rename="camel", omit_defaults=True):
    connection_id: str
    idle: bool | None = None
    last_activity: int | None = None


class _EndOut(Struct, rename="camel"):
    connection_id: str


_encode = msgspec.json.Encoder().encode


def encode_login(
    connection_id: str,
    *,
    time: int | None = None,
    user_agent: str | None = None,
    idle_threshold: float | None = None,
    timeout: float | None = None,
    announce: bool = False,
    meta: bytes | None = None,
) -> bytes:
    """Encode the payload of ``login``.

    Args:
        connection_id: the connection id, the same as in the connection's will.
        time: when the connection began, server time in epoch milliseconds; None if unknown.
        user_agent: a description of the client for operators.
        idle_threshold: seconds without activity after which the connection counts as idle.
        timeout: seconds of silence after which the connection ends.
        announce: whether this client answers ``bridge/announce``.
        meta: the result of `encode_meta`.

    Raises:
        ConfigError: the payload is larger than 8 KiB.

    """
    login = _LoginOut(
        connection_id,
        time,
        user_agent,
        idle_threshold,
        timeout,
        announce,
        UNSET if meta is None else msgspec.Raw(meta),
    )
    payload = _encode(login)
    if len(payload) > MAX_PAYLOAD:
        raise ConfigError(f"the login has {len(payload)} bytes, at most {MAX_PAYLOAD}: shorten user_agent")
    return payload


def encode_meta(meta: Mapping[str, Any]) -> bytes:
    """Encode the `meta` of a login.

    Raises:
        ConfigError: the value cannot be written as JSON, or is larger than 2 KiB.

    """
    try:
        payload = _encode(dict(meta))
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ConfigError(f"meta cannot be written as JSON: {error}") from error
    if len(payload) > MAX_META:
        raise ConfigError(f"meta has {len(payload)} bytes of JSON, at most {MAX_META}")
    return payload


def encode_activity(
    connection_id: str, *, idle: bool | None = None, last_activity: int | None = None
) -> bytes:
    """Encode the payload of ``activity``.

    Args:
        connection_id: the connection id of the login.
        idle: the report of the client's own monitor; None for a heartbeat.
        last_activity: server time in epoch milliseconds; None for the time of receipt.

    """
    return _encode(_ActivityOut(connection_id, idle, last_activity))


def encode_end(connection_id: str) -> bytes:
    """Encode the payload of ``logout`` and ``will``."""
    return _encode(_EndOut(connection_id))


def encode_time_request(t0: int) -> bytes:
    """Encode the payload of ``time``; the reply repeats `t0`."""
    return _encode({"t0": t0})
