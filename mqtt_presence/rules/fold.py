"""The presence rules (contract section 3): events in, the new state of one user and what it changed out.

Pure: no clock, no I/O, no logging. A client's nonsense is not an exception but an `ignored` word.
"""

from collections.abc import Iterable
from typing import TypeVar, assert_never

from msgspec.structs import replace

from mqtt_presence.rules import activity as activity_rules
from mqtt_presence.rules import sightings
from mqtt_presence.rules.model import (
    GUESSED,
    NO_META,
    Activity,
    CheckDeadlines,
    ClientId,
    ClockSteppedBack,
    Connection,
    ConnectionEvent,
    End,
    EndUnconfirmed,
    Event,
    Key,
    LastLogin,
    Login,
    NetworkClosed,
    NetworkReplaced,
    Outcome,
    Reason,
    Renew,
    RuleSettings,
    Sighting,
    Status,
    UserEvent,
    UserPresence,
)
from mqtt_presence.rules.status import STATE_EVENTS, combine, status_of

T = TypeVar("T", int, str)
TOO_MANY_CONNECTIONS = "too_many_connections"
TOO_MANY_RECORDS = "too_many_records"
LIMITS = frozenset({TOO_MANY_CONNECTIONS, TOO_MANY_RECORDS})
"""The `ignored` words of messages that a limit has refused. A refused message has no effect at all; the
client's next sign of life is a new attempt (A2)."""


def fold(
    user: UserPresence, events: Iterable[Event], settings: RuleSettings, new_records: int | None = None
) -> Outcome:
    """Decide on events of one user, in their order.

    Args:
        user: what is known of the user; must hold what `UserPresence` says it holds.
        events: what happened, all of this user.
        settings: thresholds.
        new_records: how many records may be made; None: any number.

    Returns:
        The new state, the records to save, what to tell. Several changes of the status count as one.

    """
    draft = _Draft(user, settings, new_records)
    for event in events:
        draft.handle(event)
    return draft.outcome()


class _Draft:
    """One user while events are applied: the only mutable thing here, and it never leaves `fold`."""

    def __init__(self, user: UserPresence, settings: RuleSettings, new_records: int | None = None) -> None:
        self._user = user
        self._settings = settings
        self._new_records = new_records
        self._created = 0
        self._connections = dict(user.connections)
        self._newest = dict(user.newest)
        self._newest_time = dict(user.newest_time)
        self._status = user.status or Status()
        self._published = user.status is not None
        self._last_seen = user.last_seen
        self._changed: dict[Key, bool] = {}  # True: more than its activity
        self._events: list[ConnectionEvent | UserEvent] = []
        self._ignored: list[str] = []
        self._live = self._idle = 0
        self._of_client: dict[ClientId, dict[Key, None]] = {}  # live ones only
        for key, connection in self._connections.items():
            self._count(key, connection, 1)
        self._stale = False
        self._is_renewed = False

    def handle(self, event: Event) -> None:
        match event:
            case Activity():
                self._activity(event)
            case Login():
                self._login(event)
            case Sighting():
                self._sighting(event)
            case End():
                self._end(event)
            case NetworkClosed():
                self._gone(event)
            case NetworkReplaced():
                self._moved(event)
            case CheckDeadlines():
                self._check(event.now)
            case EndUnconfirmed():
                self._confirm(event)
            case ClockSteppedBack():
                self._set_back(event.now)
            case Renew():
                self._is_renewed = True
            case _:
                assert_never(event)
        if self._stale:
            self._restate(event.now)
        if self._published and self._status.since is None:  # a login behind its own end, of a newcomer
            self._status = replace(self._status, since=event.now)

    def outcome(self) -> Outcome:
        changed = self._published and (self._is_renewed or self._status != self._user.status)
        records: list[Connection] = []
        touched: list[Connection] = []
        for key, whole in self._changed.items():
            (records if whole else touched).append(self._connections[key])
        return Outcome(
            user=UserPresence(
                user_id=self._user.user_id,
                status=self._status if self._published else None,
                version=self._user.version + changed,
                last_seen=self._last_seen,
                connections=self._connections,
                newest=self._newest,
                newest_time=self._newest_time,
            ),
            changed=tuple(records),
            touched=tuple(touched),
            events=tuple(self._events),
            status_changed=changed,
            ignored=tuple(self._ignored),
            created=self._created,
        )

    # The rules, in the contract's order.

    def _login(self, login: Login) -> None:
        known = self._named_by(login)
        if self._refuses_another(login) if known is None else self._refuses_reopening(known):
            return
        self._see(login.now)
        if known is None:
            self._first_login(_unseen(login), login)  # L1, L4
        elif known.login_order is None:
            self._first_login(known, login)  # A2's record, or one of which only the end is known
        elif known.is_open:
            self._put(self._refreshed(known, login))  # L2
        elif self._may_reopen(known):
            self._reopen(self._refreshed(known, login), login.now)  # L3
        else:
            self._ignored.append("login_after_end")  # L3

    def _activity(self, activity: Activity) -> None:
        known = self._addressed(activity)
        if self._refuses_another(activity) if known is None else self._refuses_reopening(known):
            return
        self._see(activity.now)
        if known is None:
            known = self._open(_unseen(activity))  # A2
        elif not known.is_open:
            if not self._may_reopen(known):
                self._ignored.append("activity_after_end")  # A3
                return
            known = self._reopen(known, activity.now)
        self._apply(known, activity)  # A1

    def _sighting(self, sighting: Sighting) -> None:
        known = self._connections.get((sighting.client_id, sighting.connection_id))
        if known is not None and not known.is_open:
            is_reopened = sighting.revives or (sighting.is_live and self._may_reopen(known))
            if not is_reopened or self._refuses_reopening(known):  # D3
                self._ignored.append("sighting_after_end")
                return
            known = self._reopen(known, sighting.now)
        elif known is None:  # D1
            if self._refuses_another(sighting):
                return
            for other in self._open_of(sighting.client_id):
                self._close(other, Reason.SUPERSEDED, sighting.now)
            known = self._open(sightings.shown(_unseen(sighting), sighting, self._settings))
        if sighting.is_live:
            self._see(sighting.now)
        fresh = sightings.shown(known, sighting, self._settings)  # D2
        if fresh != known:
            self._put(fresh)
        if known.idle is not None and activity_rules.is_news(known, fresh):
            name = "connectionIdle" if fresh.idle else "connectionActive"
            self._events.append(ConnectionEvent(name, fresh))

    def _end(self, end: End) -> None:
        if end.connection_id is None:  # E2
            open_ones = self._open_of(end.client_id)
            for connection in open_ones:
                self._see(end.now)
                self._close(connection, end.reason, end.now)
            if not open_ones:
                self._ignored.append("end_of_nothing")
            return
        known = self._connections.get((end.client_id, end.connection_id))  # E1
        if known is None:
            if not self._refuses_record():
                self._put(_only_the_end_known(end))
        elif known.is_open:
            self._see(end.now)
            self._close(replace(known, cause=end.cause), end.reason, end.now)
        elif known.reason in GUESSED or known.told:
            graced = None if end.reason is Reason.LOGOUT else known.check_at
            self._put(replace(known, reason=end.reason, check_at=graced, told=False))
        else:
            self._ignored.append("end_after_end")

    def _gone(self, gone: NetworkClosed) -> None:
        """G1: what came by that very connection with the broker ends with it, and nothing else."""
        for connection in [*self._connections.values()]:
            if (connection.client_id, connection.peer) != (gone.client_id, gone.peer):
                continue
            if gone.reason is not None and connection.is_open:
                self._close(replace(connection, cause=gone.cause, told=True), gone.reason, gone.now)
            elif gone.reason is not None and connection.reason in GUESSED:
                graced = None if gone.reason is Reason.LOGOUT else connection.check_at
                self._put(
                    replace(connection, cause=gone.cause, told=True, reason=gone.reason, check_at=graced)
                )
            elif connection.cause is None:
                self._put(replace(connection, cause=gone.cause))

    def _moved(self, moved: NetworkReplaced) -> None:
        """G2: should the client end before it logs in again, what it left behind ends with it."""
        for connection in self._open_of(moved.client_id):
            if connection.peer == moved.peer:
                self._put(replace(connection, peer=moved.heir))

    def _check(self, now: int) -> None:
        for key in list(self._connections):
            connection = self._connections[key]
            if connection.check_at is None or connection.check_at > now:
                continue
            if not connection.is_open:
                self._put(replace(connection, check_at=None))  # the grace is over
            elif activity_rules.is_expired(connection, self._settings, now):
                self._close(connection, Reason.TIMEOUT, now)  # B2
            elif activity_rules.is_idle(connection, self._settings, now):  # B1
                idle = replace(connection, idle=True, last_activity=activity_rules.active_at(connection))
                self._put(replace(idle, check_at=self._deadline(idle)))
                self._events.append(ConnectionEvent("connectionIdle", idle))
            else:
                self._put(replace(connection, check_at=self._deadline(connection)))

    def _confirm(self, confirm: EndUnconfirmed) -> None:
        for connection in [*self._connections.values()]:
            answers = connection.origin in confirm.origins if confirm.origins else connection.announce
            if connection.is_open and answers and connection.last_seen < confirm.announced_at:
                self._close(connection, Reason.UNCONFIRMED, confirm.now)  # B3

    def _set_back(self, now: int) -> None:
        """Have silence, activity and a grace count from now, not from a time that has not come yet."""
        for connection in [*self._connections.values()]:
            cut = activity_rules.cut(connection, now)
            if connection.is_open:
                if cut != connection:
                    self._put(replace(cut, check_at=self._deadline(cut)))
            elif connection.check_at is not None and connection.check_at > now + self._settings.grace_ms:
                self._put(replace(cut, check_at=now + self._settings.grace_ms))

    # Limits. Before any effect, so that what is refused has none.

    def _refuses_another(self, event: Login | Activity | Sighting) -> bool:
        """Refuse a connection that there is no room for, or no new record."""
        most = self._settings.max_connections
        if most is not None and self._live >= most:
            # A login makes room: it ends the client's connection before, or its grace.
            freed = isinstance(event, Login) and any(
                not c.is_open or c.login_order is not None or _gives_way(c, event)
                for c in self._live_of(event.client_id)
            )
            if self._live - freed >= most:
                self._ignored.append(TOO_MANY_CONNECTIONS)
                return True
        return self._refuses_record()

    def _refuses_reopening(self, known: Connection) -> bool:
        """Refuse what would reopen a record (L3, A3) that there is no room for."""
        if known.reason not in GUESSED:
            return False
        most = self._settings.max_connections
        if most is None or self._live - known.is_live < most:
            return False
        if any(c.login_order is not None for c in self._open_of(known.client_id)):
            return False  # it ends, should this one reopen
        self._ignored.append(TOO_MANY_CONNECTIONS)
        return True

    def _refuses_record(self) -> bool:
        """Refuse a record beyond what may be made; count one that is."""
        if self._new_records is not None and self._created >= self._new_records:
            self._ignored.append(TOO_MANY_RECORDS)
            return True
        self._created += 1
        return False

    # Finding the record a message means.

    def _named_by(self, login: Login) -> Connection | None:
        if login.connection_id is not None:
            return self._connections.get((login.client_id, login.connection_id))
        # L2: it has none, and the client's open record had none either
        return next((c for c in self._open_of(login.client_id) if not c.named), None)

    def _addressed(self, activity: Activity) -> Connection | None:
        if activity.connection_id is not None:
            return self._connections.get((activity.client_id, activity.connection_id))
        return activity_rules.nameless(self._open_of(activity.client_id))

    def _live_of(self, client_id: ClientId) -> list[Connection]:
        return [self._connections[key] for key in self._of_client.get(client_id, ())]

    def _open_of(self, client_id: ClientId) -> list[Connection]:
        return [connection for connection in self._live_of(client_id) if connection.is_open]

    # What the rules are made of.

    def _first_login(self, known: Connection, login: Login) -> None:
        """Register a login whose record has had none: L1, L4, and the late login of A2 and E1."""
        order, time, outdated = self._place(known, login)
        if order > self._newest.get(login.client_id, 0):
            self._newest[login.client_id] = order
            self._newest_time.pop(login.client_id, None)
            if time is not None:
                self._newest_time[login.client_id] = time
        # One whose end came first has no length.
        login_time = known.login_time if known.login_time is not None else known.logout_time
        if login_time is None:
            login_time = login.now
        known = replace(
            self._refreshed(known, login), login_order=order, login_time=login_time, client_time=time
        )
        self._remember_login(known)
        self._published = True
        if not known.is_open:
            if time is not None:
                self._supersede_older(login, time)
            if self._may_reopen(known):
                self._reopen(known, login.now)
            else:
                self._put(known)
                self._ignored.append("login_after_end")  # L3: behind its own will
        elif outdated and known.opened_at is None:  # L4
            self._put(replace(known, logout_time=login.now, reason=Reason.SUPERSEDED))
        elif outdated:
            self._close(known, Reason.SUPERSEDED, login.now)
        else:
            self._supersede_by(known, login)
            if known.opened_at is None:
                self._open(known)
            else:
                self._put(known)

    def _place(self, known: Connection, login: Login) -> tuple[int, int | None, bool]:
        """Find the place of a login among those of its client (L4).

        Returns:
            The `login_order`; the `client_time`; whether the client's newest connection is newer.

        """
        newest = self._newest.get(login.client_id, 0)
        newest_time = self._newest_time.get(login.client_id)
        # Cut to now: ahead of it, a `time` says no more than the receipt does.
        time = None if login.time is None else min(login.time, login.now)
        if not known.is_open and time != login.time:
            time = None  # of a login behind its own end the receipt says nothing
        if newest_time is not None and newest_time > login.now:
            # Our clock was set back: until that time has come, the order of arrival is all there is.
            if known.is_open:
                return newest, None, False
        elif time is not None and newest_time is not None and time < newest_time:
            return time, time, True
        elif time is not None and (time > newest or time == newest == newest_time):
            return time, time, False
        elif known.is_open or (time is not None and newest_time is not None):
            return max(login.now if time is None else time, newest + 1), time, False
        # Late, or a repeat: nothing says that it is newer.
        heard = known.login_time if known.login_time is not None else known.logout_time
        order = time if time is not None else heard if heard is not None else login.now
        return min(order, newest or order), None, False

    def _refreshed(self, known: Connection, login: Login) -> Connection:
        fresh = replace(
            known,
            user_agent=_mentioned(login.user_agent, known.user_agent),
            ip_addr=login.ip_addr if login.ip_addr is not None else known.ip_addr,
            idle_threshold_ms=_mentioned(login.idle_threshold_ms, known.idle_threshold_ms),
            timeout_ms=_mentioned(login.timeout_ms, known.timeout_ms),
            announce=login.announce if login.announce is not None else known.announce,
            meta=_mentioned("" if login.meta == NO_META else login.meta, known.meta),
            last_seen=max(known.last_seen, login.now),
            peer=login.peer if login.peer is not None else known.peer,
            cause=None if known.is_open else known.cause,
        )
        last = self._status.last_login
        if last is not None and (last.order, last.date) == (fresh.login_order, fresh.login_time):
            self._remember_login(fresh)
        if not fresh.is_open:
            return fresh
        return replace(fresh, check_at=self._deadline(fresh)) if fresh.opened_at is not None else fresh

    def _remember_login(self, connection: Connection) -> None:
        """Make it the user's last login, unless that is a later one."""
        order, date = connection.login_order, connection.login_time
        last = self._status.last_login
        if order is None or date is None or (last is not None and last.order > order):
            return
        login = LastLogin(
            order=order, date=date, ip_addr=connection.ip_addr, user_agent=connection.user_agent
        )
        self._status = replace(self._status, last_login=login)

    def _supersede_by(self, newest: Connection, login: Login) -> None:
        """End the client's other connections, and their grace: the client is back (L1)."""
        for connection in self._live_of(login.client_id):
            if connection.connection_id == newest.connection_id:
                continue
            if not connection.is_open:
                self._put(replace(connection, check_at=None))
            elif connection.login_order is not None or _gives_way(connection, login):
                self._close(connection, Reason.SUPERSEDED, login.now)

    def _supersede_older(self, login: Login, time: int) -> None:
        """End the client's open connections that a late login would have ended, had it come in time."""
        for connection in self._open_of(login.client_id):
            began = connection.login_order if connection.client_time is None else connection.client_time
            if began is not None and began < time:
                self._close(connection, Reason.SUPERSEDED, login.now)

    def _may_reopen(self, connection: Connection) -> bool:
        """The end was a guess, and the client has no newer connection (L3, A3)."""
        if connection.reason not in GUESSED:
            return False
        order = connection.login_order if connection.login_order is not None else connection.login_time or 0
        newest = self._newest.get(connection.client_id)
        if newest is not None and newest > order:
            return False
        return all(
            c.login_order is None or c.login_order <= order for c in self._open_of(connection.client_id)
        )

    def _open(self, connection: Connection) -> Connection:
        now = connection.last_seen
        login_time = connection.login_time if connection.login_time is not None else now
        opened = replace(connection, login_time=login_time, opened_at=now)
        opened = replace(opened, check_at=self._deadline(opened))
        self._published = True
        self._put(opened)
        self._events.append(ConnectionEvent("connectionLogin", opened))
        return opened

    def _reopen(self, connection: Connection, now: int) -> Connection:
        for other in self._open_of(connection.client_id):
            if other.login_order is not None:
                self._close(other, Reason.SUPERSEDED, now)
        # Cut: the clock may have been set back since its end.
        opened = replace(
            activity_rules.cut(connection, now),
            logout_time=None,
            reason=None,
            cause=None,
            opened_at=now,
            last_seen=now,
        )
        opened = replace(opened, check_at=self._deadline(opened))
        self._put(opened)
        self._events.append(ConnectionEvent("connectionLogin", opened))
        return opened

    def _close(self, connection: Connection, reason: Reason, now: int) -> None:
        graced = reason not in (Reason.LOGOUT, Reason.SUPERSEDED) and self._settings.grace_ms > 0
        check_at = now + self._settings.grace_ms if graced else None
        ended = replace(connection, logout_time=now, reason=reason, check_at=check_at)
        self._put(ended)
        self._events.append(ConnectionEvent("connectionLogout", ended))

    def _apply(self, known: Connection, activity: Activity) -> None:
        """A1: what a report or a heartbeat says of an open connection."""
        fresh = activity_rules.after(known, activity, self._settings)
        self._put(fresh, whole=False)
        if activity_rules.is_news(known, fresh):
            self._events.append(
                ConnectionEvent("connectionIdle" if fresh.idle else "connectionActive", fresh)
            )

    def _deadline(self, connection: Connection) -> int | None:
        return activity_rules.deadline(connection, self._settings)

    # Bookkeeping.

    def _see(self, now: int) -> None:
        self._last_seen = now if self._last_seen is None else max(self._last_seen, now)

    def _put(self, new: Connection, *, whole: bool = True) -> None:
        key = (new.client_id, new.connection_id)
        old = self._connections.get(key)
        self._connections[key] = new
        self._changed[key] = whole or self._changed.get(key, False)
        if (
            old is None
            or old.idle != new.idle
            or old.is_live != new.is_live
            or (new.idle and old.last_activity != new.last_activity)
        ):
            if old is not None:
                self._count(key, old, -1)
            self._count(key, new, 1)
            self._stale = True

    def _count(self, key: Key, connection: Connection, step: int) -> None:
        if not connection.is_live:
            return
        self._live += step
        if connection.idle:
            self._idle += step
        if step > 0:
            self._of_client.setdefault(key[0], {})[key] = None
        else:
            del self._of_client[key[0]][key]

    def _restate(self, now: int) -> None:
        """Bring the status up to date; the scan over the connections is only for who is idle."""
        self._stale = False
        if not self._published:
            return  # only ends so far, of connections never heard of: there is no `since` yet
        all_idle = self._live > 0 and self._live == self._idle
        if all_idle:
            status = combine((c for c in self._connections.values() if c.is_live), self._status, now)
        else:
            status = status_of(self._live, None, self._status, now, all_idle=False)
        if status.state is not self._status.state:
            for name in STATE_EVENTS[self._status.state, status.state]:
                self._events.append(UserEvent(name, self._user.user_id, now, status.connections))
        self._status = status


def _mentioned(told: T | None, known: T | None) -> T | None:
    """Return what a login tells, else what is known already (L2); an empty value clears."""
    return known if told is None else told or None


def _gives_way(connection: Connection, login: Login) -> bool:
    """Tell whether a connection of which only activity came (A2) ends by this login of its client.

    It waits for its own login, unless that would not tell a `time` either: then the order of arrival is all
    there is.
    """
    return login.time is None or not connection.named


def _unseen(event: Login | Activity | Sighting) -> Connection:
    """Begin the record of a connection never heard of before."""
    connection_id = event.connection_id or (None if isinstance(event, Sighting) else event.fresh_id)
    if connection_id is None:
        raise ValueError("an event without connection_id needs a fresh_id")
    return Connection(
        user_id=event.user_id,
        client_id=event.client_id,
        connection_id=connection_id,
        named=event.connection_id is not None,
        last_seen=event.now,
        ip_addr=event.ip_addr,
        peer=event.peer,
        origin=event.origin,
    )


def _only_the_end_known(end: End) -> Connection:
    """E1, unseen: remember the id as ended, so that a late login cannot revive it."""
    if end.connection_id is None:
        raise ValueError("an end without an id names nothing to remember")
    return Connection(
        user_id=end.user_id,
        client_id=end.client_id,
        connection_id=end.connection_id,
        last_seen=end.now,
        logout_time=end.now,
        reason=end.reason,
    )
