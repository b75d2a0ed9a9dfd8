"""The value types of presence: connection records, a user's status, and the outcome of events.

The values are immutable. They are `msgspec.Struct`s, because the bridge makes one for every message, and a
frozen dataclass of this width takes ten times as long to make (docs/design.md). Times are integers, epoch
milliseconds in UTC; durations are milliseconds, named `_ms`.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import NewType, TypeAlias

from msgspec import Struct

UserId = NewType("UserId", str)
ClientId = NewType("ClientId", str)
ConnectionId = NewType("ConnectionId", str)


class State(StrEnum):
    """A user's state (docs/protocol.md, "The user's status")."""

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
    """How a network connection ended, as the broker reports; for operators, beside the reason."""

    DISCONNECT = "disconnect"
    """The client left on purpose, by a DISCONNECT."""
    CLOSED = "closed"
    """The network connection was closed or broke."""
    KEEP_ALIVE = "keepAlive"
    """The client was silent for longer than its keep alive allows."""
    TAKEOVER = "takeover"
    """Another network connection came with the same client id."""
    KICKED = "kicked"
    """An administrator ended it."""
    ERROR = "error"
    """The client broke the protocol or a limit."""
    PARENT = "parent"
    """The gateway of a device is gone (device profiles)."""


class Rule(IntEnum):
    """The rules that records and explanations name (docs/protocol.md); the database has the numbers."""

    L1 = 11
    L3 = 13
    L4 = 14
    A1 = 21
    A2 = 22
    A3 = 23
    E1 = 31
    E2 = 32
    G1 = 41
    G2 = 42
    B1 = 51
    B2 = 52
    B3 = 53
    S1 = 61
    S2 = 62
    S3 = 63
    I1 = 71
    I2 = 72
    D12 = 112
    D17 = 117


NO_META = "{}"
"""The `meta` of a login that clears it."""
LOGIN, ACTIVITY, BROKER, PROFILE = "login", "activity", "broker", "profile:"
"""Origins of records; that of a device begins with `PROFILE`."""
GUESSED = frozenset({Reason.TIMEOUT, Reason.UNCONFIRMED})
"""The reasons of guessed ends, concluded from silence: a sign of life takes them back (L3, A3)."""


class ActivityState(Struct, frozen=True, gc=False):
    """The fields of a connection that a sign of life needs or changes (A1, B1, B2)."""

    user_id: UserId
    client_id: ClientId
    connection_id: ConnectionId
    last_seen: int
    login_order: int | None = None
    """The place among the connections of one client: the login's `time`, else its receipt. A login that is
    the latest only by its arrival has a greater number. None before the login."""
    opened_at: int | None = None
    """When the connection opened, or last reopened: B1 counts from this until there is activity."""
    idle_threshold_ms: int | None = None
    timeout_ms: int | None = None
    heartbeats: bool = False
    """Whether the connection has sent a heartbeat."""
    reports: bool = False
    """Whether the connection has sent a report."""
    idle: bool | None = None
    last_activity: int | None = None
    logout_time: int | None = None
    check_at: int | None = None
    """When the next check is due at the latest (B1, B2). In an ended record: the end of the grace, until
    which the record still counts."""

    @property
    def is_open(self) -> bool:
        """Whether the connection has not ended."""
        return self.logout_time is None

    @property
    def is_live(self) -> bool:
        """Whether the connection counts for the user's status: open, or ended and in its grace."""
        return self.logout_time is None or self.check_at is not None


class Connection(ActivityState, frozen=True, gc=False):
    """A connection record; its key is (user_id, client_id, connection_id)."""

    client_named: bool = True
    """Whether the client chose the connection id; otherwise the bridge made one up."""
    login_time: int | None = None
    """When the first message of the connection arrived; None if that was its end (E1)."""
    ip_addr: str | None = None
    user_agent: str | None = None
    announce: bool = False
    meta: str | None = None
    reason: Reason | None = None
    cause: Cause | None = None
    network_id: int | None = None
    """The broker's network connection of the login, if the broker reports network connections."""
    ended_by_broker: bool = False
    """Ended by the broker's report only; a later logout or will may still correct the reason."""
    client_time: int | None = None
    """The `time` of the login; None without one, or if it cannot be compared with other logins (L4)."""
    origin: str | None = None
    """The opener of the record: `login`, `activity`, `broker` or `profile:<name>`; None: unknown."""
    opened_by: Rule | None = None
    """The rule that opened the record, or last reopened it, at `opened_at`; None: none did, or unknown."""
    ended_by: Rule | None = None
    """The rule that ended the record, at `logout_time`; None: none did, or unknown."""
    corrected_by: Rule | None = None
    """The rule that later made a guessed end certain, or corrected the reason; None: none did."""
    corrected_at: int | None = None
    """When it did so."""
    unconfirmed_since: int | None = None
    """When reports of the broker were lost, perhaps also that of this connection's end (I2)."""


Key: TypeAlias = tuple[ClientId, ConnectionId]
"""The key of a connection among those of one user."""


class LastLogin(Struct, frozen=True, kw_only=True, gc=False):
    """The user's latest login, kept when offline."""

    order: int
    """The `Connection.login_order`, which decides on the latest login."""
    date: int
    ip_addr: str | None = None
    user_agent: str | None = None


class Status(Struct, frozen=True, kw_only=True):
    """The content of `status/<user>`, except `lastSeen` and `version`."""

    state: State = State.OFFLINE
    since: int | None = None
    connections: int = 0
    last_activity: int | None = None
    last_login: LastLogin | None = None

    @property
    def online(self) -> bool:
        """Whether there is a live connection."""
        return self.state is not State.OFFLINE

    @property
    def idle(self) -> bool | None:
        """Whether all live connections are idle; None without live connections."""
        return None if self.state is State.OFFLINE else self.state is State.IDLE


class UserPresence(Struct, frozen=True, kw_only=True):
    """A user, with the records that the rules need for the events at hand (`needs`)."""

    user_id: UserId
    status: Status | None = None
    """None if no status of this user was ever published."""
    version: int = 0
    last_seen: int | None = None
    connections: Mapping[Key, Connection] = {}
    """All live records, and the ended records that the events name."""
    latest_login: Mapping[ClientId, int] = {}
    """For each client that logs in, the greatest `login_order` of all its records."""
    latest_login_time: Mapping[ClientId, int] = {}
    """The `client_time` of the same record, if there is one."""


class ConnectionEvent(Struct, frozen=True, gc=False):
    """`connectionLogin`, `connectionLogout`, `connectionIdle` or `connectionActive`."""

    name: str
    connection: Connection


class UserEvent(Struct, frozen=True, gc=False):
    """`userOnline`, `userOffline`, `userIdle` or `userActive`."""

    name: str
    user_id: UserId
    time: int
    connections: int


class Standing(Struct, frozen=True, gc=False):
    """A user's share of the totals of all users."""

    state: State | None = None
    """None: the user has no status."""
    live: int = 0
    """The number of live connections."""
    idle: int = 0
    """The number of those that are idle."""


class Outcome(Struct, frozen=True):
    """The effects of events on one user."""

    user: UserPresence
    changed: tuple[Connection, ...]
    """The records to save."""
    touched: tuple[ActivityState, ...]
    """More records to save, of which only the activity has changed: `last_seen`, `heartbeats`, `reports`,
    `idle`, `last_activity`, `check_at`."""
    events: tuple[ConnectionEvent | UserEvent, ...]
    status_changed: bool
    """Whether the status must be published; then `user.version` has grown by one."""
    ignored: tuple[str, ...]
    """The reasons for which events had no effect, one word each."""
    created: int = 0
    """The number of new records."""
    is_new: bool = False
    """Whether the user had no status before, or was forgotten since."""
    before: Standing = Standing()
    after: Standing = Standing()


class RuleSettings(Struct, frozen=True, kw_only=True):
    """The settings that the rules depend on; durations in milliseconds."""

    idle_threshold_ms: int = 60_000
    expire_after_ms: int | None = None
    grace_ms: int = 0
    implicit_keep_ms: int = 86_400_000
    """How long an unconfirmed connection is kept (I2)."""
    max_connections: int | None = None
    """The greatest number of live connections of one user; None for any number."""
    clock_tolerance_ms: int = 0
    """How far a client's time may be ahead of the bridge's clock (D1)."""

    def trusted(self, time: int, now: int) -> int:
        """Return the time of a client, or the time of receipt if the client's is too far ahead (D1).

        Args:
            time: of the client, epoch milliseconds.
            now: of the receipt, epoch milliseconds.

        """
        return time if time <= now + self.clock_tolerance_ms else now
