"""The census: users and connections by state, and their changes, kept up to date with each commit.

A count of a million rows takes most of a second, so it is done once, at the start.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from mqtt_presence.bridge.clock import Clock
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.monitoring.metric import Distribution, Histogram, Labels, Metric, counter
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.rules.model import Connection, ConnectionEvent, Outcome, Reason, Standing, State, UserEvent
from mqtt_presence.store import Store, Transaction

LIVE, IDLE = "live_connections", "idle_connections"
"""Connections in the totals, beside the states of users; as in `BridgeTables.forgotten_totals`."""
NO_CAUSE = "none"
"""The label of an end whose cause the broker did not report."""
_READ_EVERY_S = 10.0
_DETECTION_BOUNDS_S = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0)
# Plain texts: an enumeration's hash takes as long as all the rest of the counting.
_ONLINE, _IDLE, _OFFLINE = (state.value for state in (State.ONLINE, State.IDLE, State.OFFLINE))
_STATE_AFTER = {"userOnline": _ONLINE, "userActive": _ONLINE, "userIdle": _IDLE, "userOffline": _OFFLINE}
_TRANSITIONS: tuple[Labels, ...] = (
    (_OFFLINE, _ONLINE),
    (_ONLINE, _IDLE),
    (_IDLE, _ONLINE),
    (_ONLINE, _OFFLINE),
    (_IDLE, _OFFLINE),
)


def _plain(state: State) -> str:
    return _ONLINE if state is State.ONLINE else _IDLE if state is State.IDLE else _OFFLINE


class Census(OnCheck):
    """Counts users and connections.

    Args:
        store: counts once, at the start.
        clock: the bridge's.

    """

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__()
        self._store = store
        self._clock = clock
        self._read_at_s = 0.0
        self._totals: Counter[str] = Counter()
        """Users by state, and connections, without the users that were forgotten."""
        self._forgotten: Counter[str] = Counter()
        """The part of `_totals` that was forgotten since the start."""
        self._forgotten_before: Counter[str] = Counter()
        self._logins = 0
        self._ends: Counter[Labels] = Counter({(Reason.LOGOUT.value, NO_CAUSE): 0})
        self._transitions: dict[Labels, int] = dict.fromkeys(_TRANSITIONS, 0)
        self._detection_s = Histogram(_DETECTION_BOUNDS_S)

    # For the bridge.

    def restore(self, tx: Transaction) -> None:
        """Count everything."""
        users, live, idle = tx.presence_totals()
        self._totals = Counter({**users, LIVE: live, IDLE: idle})
        self._forgotten_before = tx.forgotten_totals()
        self._forgotten = Counter()

    def check(self, link: Link) -> bool:
        """Learn, every ten seconds, which users another process has forgotten."""
        del link
        if self._clock.monotonic() - self._read_at_s >= _READ_EVERY_S:
            with self._store.transaction() as tx:
                self._forgotten = tx.forgotten_totals() - self._forgotten_before
            self._read_at_s = self._clock.monotonic()
        return True

    def committed(self, outcomes: Sequence[Outcome]) -> None:
        """Count outcomes; see `CommitObserver`."""
        for outcome in outcomes:
            if outcome.before != outcome.after:
                self._move(outcome.before, outcome.after)
            if outcome.events:
                self._count_events(outcome)

    def _move(self, before: Standing, after: Standing) -> None:
        totals = self._totals
        if before.state is not after.state:
            if before.state is not None:
                totals[_plain(before.state)] -= 1
            if after.state is not None:
                totals[_plain(after.state)] += 1
        if before.live != after.live:
            totals[LIVE] += after.live - before.live
        if before.idle != after.idle:
            totals[IDLE] += after.idle - before.idle

    def _count_events(self, outcome: Outcome) -> None:
        before = outcome.before.state
        state = _OFFLINE if before is None else _plain(before)
        for event in outcome.events:
            if isinstance(event, UserEvent):
                after = _STATE_AFTER[event.name]
                self._transitions[state, after] += 1
                state = after
            else:
                self._count_connection(event)

    def _count_connection(self, event: ConnectionEvent) -> None:
        if event.name == "connectionLogin":
            self._logins += 1
        elif event.name == "connectionLogout":
            self._count_end(event.connection)

    def _count_end(self, record: Connection) -> None:
        reason, ended_at = record.reason, record.logout_time
        assert reason is not None
        assert ended_at is not None
        self._ends[reason.value, NO_CAUSE if record.cause is None else record.cause.value] += 1
        if reason is not Reason.LOGOUT and reason is not Reason.SUPERSEDED:
            self._detection_s.add(max(0, ended_at - record.last_seen) / 1000)

    # For other threads, which may read in the middle of a change.

    def users(self) -> dict[State, int]:
        """Return the number of users in each state."""
        return {state: self._count(state) for state in State}

    @property
    def live_connections(self) -> int:
        """The number of live connections."""
        return self._count(LIVE)

    def _count(self, name: str) -> int:
        return max(0, self._totals[name] - self._forgotten[name])

    def metrics(self) -> Iterable[Metric | Distribution]:
        """See `Measured`. The totals are those of all bridges, and the holder of seat 0 has them."""
        if self._store.seat.number == 0:
            yield from self._totals_as_metrics()
        # Copies, because the loop goes on meanwhile.
        ends, transitions = self._ends.copy(), self._transitions.copy()
        yield counter("logins", "Connections that opened, or opened again.", self._logins)
        yield Metric(
            "ends",
            "Connections that ended, by the protocol's reason and by the cause that the broker reported.",
            is_counter=True,
            labels=("reason", "cause"),
            values=ends,
        )
        yield Metric(
            "transitions",
            "Changes of users' states, as in the events.",
            is_counter=True,
            labels=("from", "to"),
            values=transitions,
        )
        yield self._detection_s.read(
            "detection_seconds",
            "Time from a connection's last message to its end, if it was lost, timed out or unconfirmed.",
        )

    def _totals_as_metrics(self) -> Iterable[Metric]:
        idle = self._count(IDLE)
        connections: dict[Labels, float] = {
            ("active",): max(0, self.live_connections - idle),
            ("idle",): idle,
        }
        users: dict[Labels, int] = {(state.value,): count for state, count in self.users().items()}
        yield Metric("users", "The users by state.", is_counter=False, labels=("state",), values=users)
        yield Metric(
            "connections",
            "The live connections by state: open, or ended and in their grace.",
            is_counter=False,
            labels=("state",),
            values=connections,
        )
