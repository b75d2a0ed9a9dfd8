"""Events: the messages of clients and devices, the reports of the broker, and the bridge's own checks.

The field `now` is the bridge's clock on receipt.
"""

from typing import TypeAlias

from msgspec import Struct

from mqtt_presence.rules.model import (
    ACTIVITY,
    BROKER,
    LOGIN,
    Cause,
    ClientId,
    ConnectionId,
    Reason,
    Rule,
    UserId,
)


class Login(Struct, frozen=True, kw_only=True, gc=False):
    """A client logs in (L1 to L4)."""

    user_id: UserId
    client_id: ClientId
    now: int
    connection_id: ConnectionId | None = None
    fresh_id: ConnectionId | None = None
    """The connection id for a client that names none; made up by the caller, because the rules are pure."""
    time: int | None = None
    ip_addr: str | None = None
    # None: the login does not mention the field. A duration of 0, an empty text and `NO_META` clear it.
    user_agent: str | None = None
    idle_threshold_ms: int | None = None
    timeout_ms: int | None = None
    announce: bool | None = None
    meta: str | None = None
    network_id: int | None = None
    origin: str = LOGIN


class Activity(Struct, frozen=True, kw_only=True, gc=False):
    """A heartbeat; or with `idle`, a report of the client's own monitor (A1 to A3)."""

    user_id: UserId
    client_id: ClientId
    now: int
    connection_id: ConnectionId | None = None
    fresh_id: ConnectionId | None = None
    ip_addr: str | None = None
    idle: bool | None = None
    last_activity: int | None = None
    network_id: int | None = None
    origin: str = ACTIVITY


class Sighting(Struct, frozen=True, kw_only=True, gc=False):
    """A device's own topic shows that the device is there (device profiles, rules S1 to S3)."""

    user_id: UserId
    client_id: ClientId
    now: int
    connection_id: ConnectionId
    origin: str
    is_live: bool = True
    """Sent now: a sign of life. False: retained, so of unknown age."""
    revives: bool = False
    """The record may reopen although the device was reported gone."""
    idle: bool | None = None
    """None: as before."""
    timeout_ms: int | None = None
    """None: as before; 0: none."""
    meta: str | None = None
    """None: as before."""
    ip_addr: str | None = None
    network_id: int | None = None


class End(Struct, frozen=True, kw_only=True, gc=False):
    """A logout, or the will of a lost connection (E1, E2)."""

    user_id: UserId
    client_id: ClientId
    now: int
    reason: Reason
    connection_id: ConnectionId | None = None
    cause: Cause | None = None
    rule: Rule | None = None
    """The rule to name, where the end is not the client's message; None: E1 or E2."""


class NetworkClosed(Struct, frozen=True, kw_only=True, gc=False):
    """The broker reports the end of one network connection of a client (G1)."""

    user_id: UserId
    client_id: ClientId
    now: int
    network_id: int
    cause: Cause
    reason: Reason | None
    """None if no record ends, because the client has connected again: only the cause is recorded."""


class NetworkReplaced(Struct, frozen=True, kw_only=True, gc=False):
    """The broker reports that a client has connected again while it was connected (G2)."""

    user_id: UserId
    client_id: ClientId
    now: int
    network_id: int
    new_network_id: int


class NetworkOpened(Struct, frozen=True, kw_only=True, gc=False):
    """The broker reports that a client is connected, and the client has not logged in (I1)."""

    user_id: UserId
    client_id: ClientId
    now: int
    network_id: int
    connected_at: int
    """When the connect was reported: a message since then came over this network connection."""
    connection_id: ConnectionId
    """Made up by the caller."""
    ip_addr: str | None = None
    is_listed: bool = False
    """The report is the broker's list of connected clients, which also has connections known before."""
    origin: str = BROKER


class NetworkClaimed(Struct, frozen=True, kw_only=True, gc=False):
    """Another user has logged in over a network connection, so the record that I1 opened ends."""

    user_id: UserId
    client_id: ClientId
    now: int
    network_id: int


class ReportsLost(Struct, frozen=True, kw_only=True, gc=False):
    """The broker's reports of a time are lost, perhaps also those of ends (I2)."""

    user_id: UserId
    now: int
    before: int
    """Records with a later report or message are certain, epoch milliseconds."""


class CheckDeadlines(Struct, frozen=True, kw_only=True, gc=False):
    """Deadlines are due: B1, B2 or the end of a grace."""

    user_id: UserId
    now: int


class EndUnconfirmed(Struct, frozen=True, kw_only=True, gc=False):
    """The time to answer the announcement of `announced_at` is over (B3)."""

    user_id: UserId
    now: int
    announced_at: int
    origins: frozenset[str] = frozenset()
    """Not empty: the restart of the broker is the question, and records of these origins answer it."""


class ClockSteppedBack(Struct, frozen=True, kw_only=True, gc=False):
    """The clock was set back: no time of the user's live connections may be later than `now`."""

    user_id: UserId
    now: int


class Renew(Struct, frozen=True, kw_only=True, gc=False):
    """The user's status must be published again, unchanged, under a new version."""

    user_id: UserId
    now: int


Event: TypeAlias = (
    Login
    | Activity
    | Sighting
    | End
    | NetworkClosed
    | NetworkReplaced
    | NetworkOpened
    | NetworkClaimed
    | ReportsLost
    | CheckDeadlines
    | EndUnconfirmed
    | ClockSteppedBack
    | Renew
)
Message: TypeAlias = Login | Activity | Sighting | End
"""The events of the messages of clients and devices."""
BrokerReport: TypeAlias = NetworkClosed | NetworkReplaced | NetworkClaimed
"""The events of the broker's reports."""
