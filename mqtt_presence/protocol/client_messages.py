"""The payloads as the clients see them (contract sections 2 and 4): what `payloads` decodes is written here,
and what it encodes is read here.

Reading is strict in what must be there and blind to what is unknown, so that a newer bridge does no harm.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from mqtt_presence.errors import ConfigError, PayloadError
from mqtt_presence.protocol.sizes import MAX_META, MAX_PAYLOAD
from mqtt_presence.protocol.times import LATEST
from mqtt_presence.rules.model import State

_Moment = Annotated[datetime, Meta(tz=True)]
_Count = Annotated[int, Meta(ge=0)]
_Millis = Annotated[int, Meta(ge=0, le=LATEST)]

# What the bridge sends.


class LoginInfo(Struct, frozen=True, rename="camel"):
    """A user's latest login; address and user agent only where the setting `publish_private` is on."""

    date: _Moment
    ip_addr: str | None = None
    user_agent: str | None = None


class UserStatus(Struct, frozen=True, kw_only=True, rename="camel"):
    """What ``status/<user>`` says (contract section 4). Times are in UTC; None: unknown or not applicable."""

    user_id: str
    state: State
    """``online``, ``idle`` or ``offline``."""
    online: bool
    """At least one connection is there, idle or not."""
    idle: bool | None = None
    """All connections are idle; None when offline."""
    since: _Moment | None = None
    """When `state` last changed."""
    last_login: LoginInfo | None = None
    last_activity: _Moment | None = None
    """The latest activity, told only while idle."""
    last_seen: _Moment | None = None
    connections: _Count = 0
    version: _Count
    """Grows with every publication of this user."""


class BridgeStateName(StrEnum):
    """Whether the bridge is there."""

    ONLINE = "online"
    OFFLINE = "offline"


class BridgeState(Struct, frozen=True, rename="camel"):
    """What ``bridge/state`` says."""

    state: BridgeStateName
    version: _Count = 0
    started_at: _Moment | None = None


class TimeReply(Struct, frozen=True):
    """What ``reply/<user>/<client>/time`` says."""

    t0: int
    """As it was sent, see `encode_time_request`."""
    t1: _Millis
    """When the bridge received the request, epoch milliseconds."""
    t2: _Millis
    """When it sent the answer."""


_status_decoder = msgspec.json.Decoder(UserStatus)
_bridge_decoder = msgspec.json.Decoder(BridgeState)
_reply_decoder = msgspec.json.Decoder(TimeReply)


def _decode(decoder: "msgspec.json.Decoder[Any]", payload: bytes) -> Any:
    if len(payload) > MAX_PAYLOAD:
        raise PayloadError("too_large", f"{len(payload)} bytes")
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise PayloadError("bad_payload", str(error)) from error


def decode_status(user_id: str, payload: bytes) -> UserStatus:
    """Read ``status/<user>``.

    Args:
        user_id: whose, as the topic says.
        payload: not empty; an empty one means that the user was forgotten.

    Raises:
        PayloadError: it is none, or that of another user.

    """
    status: UserStatus = _decode(_status_decoder, payload)
    if status.user_id != user_id:
        raise PayloadError("bad_payload", f"userId {status.user_id!r} under the topic of {user_id!r}")
    return status


def decode_bridge_state(payload: bytes) -> BridgeState:
    """Read ``bridge/state``.

    Raises:
        PayloadError: it is none.

    """
    state: BridgeState = _decode(_bridge_decoder, payload)
    return state


def decode_time_reply(payload: bytes) -> TimeReply:
    """Read ``reply/<user>/<client>/time``.

    Raises:
        PayloadError: it is none, or was sent before it was received.

    """
    reply: TimeReply = _decode(_reply_decoder, payload)
    if reply.t2 < reply.t1:
        raise PayloadError("bad_payload", "t2 lies before t1")
    return reply


# What the clients send.


class _LoginOut(Struct, rename="camel", omit_defaults=True):
    connection_id: str
    time: int | None = None
    user_agent: str | None = None
    idle_threshold: float | None = None
    timeout: float | None = None
    announce: bool | UnsetType = UNSET  # written also if false: what is absent leaves what the bridge knows
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
    """Write the payload of ``login``.

    Args:
        connection_id: the one of this connection's will.
        time: when the connection began, server time in epoch milliseconds; None: not known.
        user_agent: what to be shown as, to operators.
        idle_threshold: seconds without activity after which the bridge takes the connection for idle.
        timeout: seconds of silence after which the bridge takes it for gone.
        announce: this client answers ``bridge/announce``.
        meta: from `encode_meta`.

    Raises:
        ConfigError: all together are more than 8 KiB.

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
    """Write the `meta` of a login.

    Raises:
        ConfigError: it is not JSON, or more than 2 KiB.

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
    """Write the payload of ``activity``.

    Args:
        connection_id: of the connection's login.
        idle: what the client's own monitor reports; None: a heartbeat.
        last_activity: server time in epoch milliseconds; None: on receipt.

    """
    return _encode(_ActivityOut(connection_id, idle, last_activity))


def encode_end(connection_id: str) -> bytes:
    """Write the payload of ``logout`` and ``will``."""
    return _encode(_EndOut(connection_id))


def encode_time_request(t0: int) -> bytes:
    """Write the payload of ``time``; `t0` comes back in the answer."""
    return _encode({"t0": t0})
