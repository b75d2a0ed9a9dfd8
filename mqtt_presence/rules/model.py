"""The value types of presence: connections, a user's status, what happened, and what it changed.

Nothing here does anything. Everything is immutable; `msgspec.Struct` rather than dataclasses, because a
frozen dataclass of this width costs ten times as much to make and the bridge makes one for every message
(docs/design.md). Times are integers, epoch milliseconds in UTC; durations are milliseconds, named `_ms`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NewType, TypeAlias

from msgspec import Struct

UserId = NewType("UserId", str)
ClientId = NewType("ClientId", str)
ConnectionId = NewType("ConnectionId", str)


class State(StrEnum):
    """A user's state (contract section 4)."""

    ONLINE = "online"
    IDLE = "idle"
    OFFLINE = "offline"


class Reason(StrEnum):
    """Why a connection ended."""

    LOGOUT = "logout"
    LOST = "lost"
    SUPERSEDED = "superseded"
    TIMEOUT = "timeout"
    UNCONFIRMED = "unconfirmed"


class Cause(StrEnum):
    """How the broker saw a network connection end, where it tells: for operators, beside the reason."""

    DISCONNECT = "disconnect"
    """The client left on purpose, by a DISCONNECT."""
    CLOSED = "closed"
    """The network connection was closed or broke."""
    KEEP_ALIVE = "keepAlive"
    """Nothing came for longer than its keep alive allows."""
    TAKEOVER = "takeover"
    """A new connection came with the same client id."""
    KICKED = "kicked"
    """An administrator ended it."""
    ERROR = "error"
    """The client broke the protocol or a limit."""
    PARENT = "parent"
    """The gateway of a device is gone (device profiles)."""


NO_META = "{}"
"""The `meta` of a login that clears it."""
GUESSED = frozenset({Reason.TIMEOUT, Reason.UNCONFIRMED})
"""Ends the bridge only concluded from silence: a sign of life takes them back (contract L3, A3)."""


class ActivityState(Struct, frozen=True, gc=False):
    """What a sign of life must know of a connection, and all that it may change there (A1, B1, B2)."""

    user_id: UserId
    client_id: ClientId
    connection_id: ConnectionId
    last_seen: int
    login_order: int | None = None
    """What orders the connections of one client: the login's `time`, else its receipt; or a greater number,
    if the connection is the newest only by its arrival. None: no login yet."""
    opened_at: int | None = None
    """When it opened, or last reopened: what B1 counts from until there is activity."""
    idle_threshold_ms: int | None = None
    timeout_ms: int | None = None
    heartbeats: bool = False
    """It has sent a heartbeat."""
    reports: bool = False
    """It has reported idle or active itself."""
    idle: bool | None = None
    last_activity: int | None = None
    logout_time: int | None = None
    check_at: int | None = None
    """Not later than this the record must be looked at again (B1, B2). On an ended one: until then it is in
    its grace and still counts."""

    @property
    def is_open(self) -> bool:
        """It has not ended."""
        return self.logout_time is None

    @property
    def is_live(self) -> bool:
        """It counts for the user's status: open, or ended and in its grace."""
        return self.logout_time is None or self.check_at is not None


class Connection(ActivityState, frozen=True, gc=False):
    """One connection record, named by (user_id, client_id, connection_id)."""

    named: bool = True
    """The client chose the connection id; False: the bridge made it up."""
    login_time: int | None = None
    """When the bridge first heard of it; None: so far only of its end."""
    ip_addr: str | None = None
    user_agent: str | None = None
    announce: bool = False
    meta: str | None = None
    reason: Reason | None = None
    cause: Cause | None = None
    peer: int | None = None
    """Which of the broker's connections it came by, as the broker reported at the login."""
    told: bool = False
    """Only the broker's word has ended it: a logout or will that names it has the last one."""
    client_time: int | None = None
    """The `time` that its login told; None: none, or none that another login can be compared with (L4)."""
    origin: str | None = None
    """What opened the record: `login`, `activity` or `profile:<name>`; None: unknown."""


Key: TypeAlias = tuple[ClientId, ConnectionId]
"""Names a connection among those of one user."""


class LastLogin(Struct, frozen=True, kw_only=True, gc=False):
    """The user's latest login, kept when offline."""

    order: int
    """What decides which is the latest: `Connection.login_order`."""
    date: int
    ip_addr: str | None = None
    user_agent: str | None = None


class Status(Struct, frozen=True, kw_only=True):
    """What `status/<user>` says, but for `lastSeen` and `version`."""

    state: State = State.OFFLINE
    since: int | None = None
    connections: int = 0
    last_activity: int | None = None
    last_login: LastLogin | None = None

    @property
    def online(self) -> bool:
        """At least one live connection."""
        return self.state is not State.OFFLINE

    @property
    def idle(self) -> bool | None:
        """All live connections are idle; None when there are none."""
        return None if self.state is State.OFFLINE else self.state is State.IDLE


class UserPresence(Struct, frozen=True, kw_only=True):
    """What the rules need to know of one user.

    `connections` holds every live connection and those ended ones that the events at hand name; `newest`
    the greatest `login_order` of each client that logs in, over all its connections, open or ended, and
    `newest_time` the `client_time` of that connection, if its login told one.
    """

    user_id: UserId
    status: Status | None = None
    """None: nothing of this user was ever published."""
    version: int = 0
    last_seen: int | None = None
    connections: Mapping[Key, Connection] = {}
    newest: Mapping[ClientId, int] = {}
    newest_time: Mapping[ClientId, int] = {}


# What happened: the events that the rules decide on. `now` is the bridge's clock on receipt.


class Login(Struct, frozen=True, kw_only=True, gc=False):
    """A client says that a connection begins."""

    user_id: UserId
    client_id: ClientId
    now: int
    connection_id: ConnectionId | None = None
    fresh_id: ConnectionId | None = None
    """The id to use when the client names none; made up at the edge, the rules being pure."""
    time: int | None = None
    ip_addr: str | None = None
    # What the login does not mention is None. A duration of 0, an empty text and `NO_META` clear.
    user_agent: str | None = None
    idle_threshold_ms: int | None = None
    timeout_ms: int | None = None
    announce: bool | None = None
    meta: str | None = None
    peer: int | None = None
    origin: str = "login"


class Activity(Struct, frozen=True, kw_only=True, gc=False):
    """A sign of life; with `idle`, a report of the client's own monitor."""

    user_id: UserId
    client_id: ClientId
    now: int
    connection_id: ConnectionId | None = None
    fresh_id: ConnectionId | None = None
    ip_addr: str | None = None
    idle: bool | None = None
    last_activity: int | None = None
    peer: int | None = None
    origin: str = "activity"


class Sighting(Struct, frozen=True, kw_only=True, gc=False):
    """A device's own topic shows that the device is there (device profiles, rules D1 to D3)."""

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
    peer: int | None = None


class End(Struct, frozen=True, kw_only=True, gc=False):
    """A logout, or the will of a lost connection."""

    user_id: UserId
    client_id: ClientId
    now: int
    reason: Reason
    connection_id: ConnectionId | None = None
    cause: Cause | None = None


class NetworkClosed(Struct, frozen=True, kw_only=True, gc=False):
    """The broker says that a network connection has ended: `peer` of the user's client, and no other one."""

    user_id: UserId
    client_id: ClientId
    now: int
    peer: int
    cause: Cause
    reason: Reason | None
    """None: do not end anything, only note the cause: the client has come again, by a new connection."""


class NetworkReplaced(Struct, frozen=True, kw_only=True, gc=False):
    """The broker says that a client of the user has come again: `heir` has taken the place of `peer`."""

    user_id: UserId
    client_id: ClientId
    now: int
    peer: int
    heir: int


class CheckDeadlines(Struct, frozen=True, kw_only=True, gc=False):
    """It is time to look for what has become due: B1, B2 and the end of a grace."""

    user_id: UserId
    now: int


class EndUnconfirmed(Struct, frozen=True, kw_only=True, gc=False):
    """B3: who was not heard of since `announced_at`, though it answers announcements, is gone."""

    user_id: UserId
    now: int
    announced_at: int
    origins: frozenset[str] = frozenset()
    """Not empty: the restart of the broker is the question, and records of these origins answer it."""


class ClockSteppedBack(Struct, frozen=True, kw_only=True, gc=False):
    """The clock was set back: nothing of the user's live connections may lie ahead of `now`."""

    user_id: UserId
    now: int


class Renew(Struct, frozen=True, kw_only=True, gc=False):
    """The user's status is to be published once more, with a new version, though nothing has changed."""

    user_id: UserId
    now: int


Event: TypeAlias = (
    Login
    | Activity
    | Sighting
    | End
    | NetworkClosed
    | NetworkReplaced
    | CheckDeadlines
    | EndUnconfirmed
    | ClockSteppedBack
    | Renew
)
Message: TypeAlias = Login | Activity | Sighting | End
"""The events that clients and devices cause."""
BrokerReport: TypeAlias = NetworkClosed | NetworkReplaced
"""Those that the broker tells."""


# What it changed.


class ConnectionEvent(Struct, frozen=True, gc=False):
    """`connectionLogin`, `connectionLogout`, `connectionIdle` or `connectionActive` (contract section 4)."""

    name: str
    connection: Connection


class UserEvent(Struct, frozen=True, gc=False):
    """`userOnline`, `userOffline`, `userIdle` or `userActive`."""

    name: str
    user_id: UserId
    time: int
    connections: int


class Outcome(Struct, frozen=True):
    """What a run of events did to one user."""

    user: UserPresence
    changed: tuple[Connection, ...]
    """The records to save, as they are now."""
    touched: tuple[ActivityState, ...]
    """More of them, of which nothing but the activity has changed: `last_seen`, `heartbeats`, `reports`,
    `idle`, `last_activity`, `check_at`."""
    events: tuple[ConnectionEvent | UserEvent, ...]
    status_changed: bool
    """There is something to publish; `user.version` has grown by one."""
    ignored: tuple[str, ...]
    """Why events had no effect, a word each."""
    created: int = 0
    """How many records there were not before."""


class RuleSettings(Struct, frozen=True, kw_only=True):
    """The settings that the rules depend on; durations in milliseconds."""

    idle_threshold_ms: int = 60_000
    expire_after_ms: int | None = None
    grace_ms: int = 0
    max_connections: int | None = None
    """Live connections of one user; None: any number."""
