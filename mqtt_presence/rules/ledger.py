"""The ledger: the records, totals and status of one user while `fold` applies events.

The ledger is the only mutable object of the rules, and it never leaves `fold`. The rule functions read and
write it.
"""

from msgspec.structs import replace

from mqtt_presence.rules.model import (
    ClientId,
    Connection,
    ConnectionEvent,
    Key,
    LastLogin,
    Outcome,
    RuleSettings,
    Standing,
    Status,
    UserEvent,
    UserPresence,
)
from mqtt_presence.rules.status import STATE_EVENTS, combine, status_of


class LiveRecords:
    """The keys of a user's live records by client, with their totals."""

    __slots__ = ("by_client", "has_changed", "idle", "total")

    def __init__(self) -> None:
        self.total = 0
        self.idle = 0
        self.by_client: dict[ClientId, dict[Key, None]] = {}
        self.has_changed = False

    def add(self, key: Key, record: Connection) -> None:
        """Count a live record."""
        self.total += 1
        if record.idle:
            self.idle += 1
        self.by_client.setdefault(key[0], {})[key] = None

    def remove(self, key: Key, record: Connection) -> None:
        """Count a record no longer."""
        self.total -= 1
        if record.idle:
            self.idle -= 1
        del self.by_client[key[0]][key]


class Ledger:
    """A user while events are applied.

    Args:
        user: the user before the events.
        settings: thresholds and limits.
        max_new_records: the greatest number of new records; None for any number.
        present: the bridge's clock, if other bridges process events of the user, too.

    """

    __slots__ = (
        "_before",
        "_changed",
        "connections",
        "events",
        "ignored",
        "is_published",
        "is_renewed",
        "last_seen",
        "latest_login",
        "latest_login_time",
        "live",
        "max_new_records",
        "new_records",
        "present",
        "settings",
        "status",
        "user",
    )

    def __init__(
        self, user: UserPresence, settings: RuleSettings, max_new_records: int | None, present: int | None
    ) -> None:
        self.user = user
        self.settings = settings
        self.max_new_records = max_new_records
        self.present = present
        self.new_records = 0
        self.connections = dict(user.connections)
        self.latest_login = dict(user.latest_login)
        self.latest_login_time = dict(user.latest_login_time)
        self.status = user.status or Status()
        #: Whether a status exists. An end of an unseen connection alone does not create a user.
        self.is_published = user.status is not None
        self.is_renewed = False
        self.last_seen = user.last_seen
        self.events: list[ConnectionEvent | UserEvent] = []
        self.ignored: list[str] = []
        self.live = LiveRecords()
        for key, record in self.connections.items():
            if record.is_live:
                self.live.add(key, record)
        state = self.status.state if self.is_published else None
        self._before = Standing(state, self.live.total, self.live.idle)
        #: The records to save; False if only their activity has changed.
        self._changed: dict[Key, bool] = {}

    def live_of(self, client_id: ClientId) -> list[Connection]:
        """Return the live records of a client."""
        return [self.connections[key] for key in self.live.by_client.get(client_id, ())]

    def open_of(self, client_id: ClientId) -> list[Connection]:
        """Return the open records of a client."""
        return [record for record in self.live_of(client_id) if record.is_open]

    def not_before(self, earlier: int | None, now: int) -> int:
        """Return the time of an event, or a known time that it follows.

        An event that has waited at one of several bridges follows what the others have processed meanwhile. A
        known time that lies in the future does not count: the clock was set back.

        Args:
            earlier: the known time, epoch milliseconds; None: there is none.
            now: of the event, epoch milliseconds.

        """
        if self.present is None or earlier is None:
            return now
        return max(now, min(earlier, self.present + self.settings.clock_tolerance_ms))

    def is_late(self, known: int, now: int) -> bool:
        """Return whether an event has waited at one of several bridges, while later ones were processed.

        Args:
            known: the receipt of a processed event, epoch milliseconds.
            now: the receipt of the event, likewise.

        """
        tolerance = self.settings.clock_tolerance_ms
        return self.present is not None and now + tolerance < known <= self.present + tolerance

    def see(self, now: int) -> None:
        """Record a sign of life of the user."""
        self.last_seen = now if self.last_seen is None else max(self.last_seen, now)

    def put(self, new: Connection, *, activity_only: bool = False) -> None:
        """Save a record.

        Args:
            new: the record.
            activity_only: whether only its activity has changed.

        """
        key = (new.client_id, new.connection_id)
        old = self.connections.get(key)
        self.connections[key] = new
        self._changed[key] = not activity_only or self._changed.get(key, False)
        was_live, is_live = old is not None and old.is_live, new.is_live
        if (
            old is None
            or was_live is not is_live
            or old.idle != new.idle
            or (new.idle and old.last_activity != new.last_activity)
        ):
            live = self.live
            if old is not None and was_live:
                live.remove(key, old)
            if is_live:
                live.add(key, new)
            live.has_changed = True

    def save_last_login(self, record: Connection) -> None:
        """Make the login of a record the user's last login, unless the known one is later."""
        order, date = record.login_order, record.login_time
        last = self.status.last_login
        if order is None or date is None or (last is not None and last.order > order):
            return
        login = LastLogin(order=order, date=date, ip_addr=record.ip_addr, user_agent=record.user_agent)
        self.status = replace(self.status, last_login=login)

    def save_last_connect(self, record: Connection) -> None:
        """Make a connect that the broker reported the user's last login, until any later login."""
        date, last = record.login_time, self.status.last_login
        if date is None or (last is not None and last.date > date):
            return
        # A client's own `time` may be earlier than the report. So the order stays that of the last login.
        login = LastLogin(order=0 if last is None else last.order, date=date, ip_addr=record.ip_addr)
        self.status = replace(self.status, last_login=login)

    def publish(self, now: int) -> None:
        """Give the user a status, if there is none yet."""
        if not self.is_published:
            self.is_published = True
            self.status = replace(self.status, since=now)

    def update_status(self, now: int) -> None:
        """Compute the status again after live records have changed, and add the user's events."""
        live = self.live
        live.has_changed = False
        if not self.is_published:
            return
        if live.total > 0 and live.total == live.idle:
            status = combine((c for c in self.connections.values() if c.is_live), self.status, now)
        else:  # The totals are enough: only an idle user has a last activity.
            status = status_of(live.total, None, self.status, now, all_idle=False)
        if status.state is not self.status.state:
            for name in STATE_EVENTS[self.status.state, status.state]:
                self.events.append(UserEvent(name, self.user.user_id, now, status.connections))
        self.status = status

    def outcome(self) -> Outcome:
        """Return the user after the events, and the changes to save and publish."""
        changed = self.is_published and (self.is_renewed or self.status != self.user.status)
        records: list[Connection] = []
        touched: list[Connection] = []
        for key, whole in self._changed.items():
            (records if whole else touched).append(self.connections[key])
        return Outcome(
            user=UserPresence(
                user_id=self.user.user_id,
                status=self.status if self.is_published else None,
                version=self.user.version + changed,
                last_seen=self.last_seen,
                connections=self.connections,
                latest_login=self.latest_login,
                latest_login_time=self.latest_login_time,
            ),
            changed=tuple(records),
            touched=tuple(touched),
            events=tuple(self.events),
            status_changed=changed,
            ignored=tuple(self.ignored),
            created=self.new_records,
            is_new=self.is_published and self.user.status is None,
            before=self._before,
            after=Standing(self.status.state if self.is_published else None, self.live.total, self.live.idle),
        )
