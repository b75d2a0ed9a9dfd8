"""The rules compared with a naive implementation (naive.py), and properties of any history."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from mqtt_presence.rules import activity as activity_rules
from mqtt_presence.rules import capacity, deadlines, fold
from mqtt_presence.rules.events import (
    Activity,
    CheckDeadlines,
    ClockSteppedBack,
    End,
    EndUnconfirmed,
    Event,
    Login,
    NetworkClaimed,
    NetworkClosed,
    NetworkOpened,
    NetworkReplaced,
    ReportsLost,
)
from mqtt_presence.rules.model import (
    Cause,
    ClientId,
    Connection,
    ConnectionEvent,
    ConnectionId,
    Outcome,
    Reason,
    Rule,
    RuleSettings,
    Status,
    UserEvent,
    UserId,
    UserPresence,
)
from mqtt_presence.rules.status import combine
from tests.cases import alone, save
from tests.model import naive

START = 1_000_000
PROTOCOL = (Path(__file__).parents[2] / "docs/protocol.md").read_text("utf-8")
ALICE = UserId("alice")

users = st.sampled_from(["alice", "bob"])
clients = st.sampled_from(["phone", "tablet"])
ids = st.sampled_from(["c1", "c2", "c3", None])
elapsed = st.sampled_from([0, 0, 1, 500, 1_000, 1_001, 2_000, 3_001])
ago = st.sampled_from([None, 0, 1, 500, 1_000, 2_500, -400])
"""How long before its receipt a told time lies; None: none is told."""
set_back = st.sampled_from([1, 700, 1_800, 5_000])
peers = st.sampled_from([None, 1, 2])
"""By which of the broker's connections it came; None: the broker did not say."""
causes = st.sampled_from(Cause)
durations = st.sampled_from([None, None, 0, 1_000, 2_500])
"""What a login says of a threshold or timeout; None: nothing; 0: there is none."""
metas = st.sampled_from([None, "{}", '{"a":1}', '{"b":2}'])


@pytest.mark.parametrize("each", Rule)
def test_rule_of_a_record_is_in_the_protocol(each: Rule) -> None:
    """Every open and end names a rule that a reader can look up."""
    assert f'<a id="rule-{each.name.lower()}"></a>{each.name} |' in PROTOCOL


def told(event: ConnectionEvent | UserEvent) -> tuple[Any, ...]:
    if isinstance(event, UserEvent):
        return (event.name, event.connections)
    c = event.connection
    reason = c.reason.value if c.reason else None
    return (event.name, c.client_id, c.connection_id, c.idle, c.last_activity, reason)


class BesideTheNaiveModel(RuleBasedStateMachine):
    """Plays one history to both, and compares everything after each step."""

    @initialize(
        grace=st.sampled_from([0, 0, 1_500]),
        expire=st.sampled_from([None, 2_000]),
        idle=st.sampled_from([1_000, 60_000]),
        tolerance=st.sampled_from([0, 0, 300, 1_000]),
    )
    def begin(self, grace: int, expire: int | None, idle: int, tolerance: int) -> None:
        self.now = START
        self.fresh = 0
        self.settings = RuleSettings(
            idle_threshold_ms=idle,
            expire_after_ms=expire,
            grace_ms=grace,
            implicit_keep_ms=2_500,
            clock_tolerance_ms=tolerance,
        )
        simple = naive.Settings(
            idle_threshold=idle, expire_after=expire, grace=grace, implicit_keep=2_500, tolerance=tolerance
        )
        self.real = {user: UserPresence(user_id=UserId(user)) for user in ("alice", "bob")}
        self.naive = {user: naive.User(simple) for user in self.real}

    def step(self, event: Event) -> None:
        user, before = self.naive[event.user_id], self.real[event.user_id]
        user.restate(self.now)
        outcome = fold.fold(before, [event], self.settings)
        self.real[event.user_id] = outcome.user
        events, user.events = user.events, []
        assert sorted(map(str, map(told, outcome.events))) == sorted(map(str, events))
        # The users' events come after the connections' that cause them.
        assert [isinstance(e, UserEvent) for e in outcome.events] == sorted(
            isinstance(e, UserEvent) for e in outcome.events
        )
        assert outcome.status_changed == (outcome.user.status != before.status)
        assert outcome.user.version == before.version + outcome.status_changed
        for c in outcome.changed:
            assert (c.opened_by is None) == (c.opened_at is None)
            assert (c.ended_by is None) == c.is_open
        self.compare(event.user_id)
        if isinstance(event, Activity):
            self.compare_alone(before, event, outcome)

    def compare_alone(self, before: UserPresence, event: Activity, outcome: Outcome) -> None:
        """What is decided without the rest of the user is what is decided with it; and nothing else is left."""
        of_client = {
            key: alone(c)
            for key, c in before.connections.items()
            if c.client_id == event.client_id and c.is_live
        }
        settled = activity_rules.settle_heartbeats([event], of_client, self.settings)
        more = outcome.changed or outcome.events or outcome.status_changed or outcome.ignored
        assert (settled is None) == bool(more)
        if settled is not None:
            (touched,) = outcome.touched
            assert settled == [alone(touched)]
            # `users` finds it in the connections.
            assert outcome.user.last_seen == max(before.last_seen or 0, touched.last_seen)

    def compare(self, user_id: str) -> None:
        real, simple = self.real[user_id], self.naive[user_id]
        assert {self.seen(c) for c in real.connections.values()} == {
            (
                r.client,
                r.id,
                r.ended,
                r.reason,
                r.idle,
                r.last_activity,
                r.heard_last if r.is_open() else None,
                r.user_agent,
                r.threshold,
                r.timeout,
                r.announce,
                r.meta,
                r.told,
                r.grace_until if r.ended else None,
                r.peer,
                r.cause,
                r.ended_by_broker,
                r.opened_by,
                r.ended_by,
                r.corrected,
                "broker" if r.from_broker else None,
                r.doubted,
            )
            for r in simple.records
        }
        if not simple.known:
            assert real.status is None
            return
        status = real.status
        assert status is not None
        assert (status.state.value, status.since, status.connections, status.last_activity) == (
            simple.state,
            simple.since,
            len(simple.live()),
            simple.shown_activity,
        )
        last = simple.last_login()
        assert (status.last_login and status.last_login.order) == (last and last.shown)
        if last is not None and [r.shown for r in simple.records].count(last.shown) == 1:
            assert status.last_login is not None
            assert (status.last_login.user_agent, status.last_login.date) == (
                last.user_agent,
                last.heard_first,
            )

    @staticmethod
    def seen(c: Connection) -> tuple[Any, ...]:
        return (
            c.client_id,
            c.connection_id,
            c.logout_time,
            c.reason.value if c.reason else None,
            c.idle,
            c.last_activity,
            c.last_seen if c.is_open else None,
            c.user_agent,
            c.idle_threshold_ms,
            c.timeout_ms,
            c.announce,
            c.meta,
            c.client_time,
            None if c.is_open else c.check_at,
            c.network_id,
            c.cause.value if c.cause else None,
            c.ended_by_broker,
            c.opened_by.name if c.opened_by else None,
            c.ended_by.name if c.ended_by else None,
            (c.corrected_by.name, c.corrected_at) if c.corrected_by else None,
            c.origin if c.origin == "broker" else None,
            c.unconfirmed_since,
        )

    def stamp(self, before: int | None) -> int | None:
        return None if before is None else self.now - before

    def next_id(self) -> str:
        self.fresh += 1
        return f"made up {self.fresh}"

    @rule(
        user=users,
        client=clients,
        connection_id=ids,
        after=elapsed,
        before=ago,
        agent=st.sampled_from([None, "A", "B", ""]),
        threshold=durations,
        timeout=durations,
        announce=st.sampled_from([None, True, False]),
        meta=metas,
        peer=peers,
    )
    def login(
        self,
        *,
        user: str,
        client: str,
        connection_id: str | None,
        after: int,
        before: int | None,
        agent: str | None,
        threshold: int | None,
        timeout: int | None,
        announce: bool | None,
        meta: str | None,
        peer: int | None,
    ) -> None:
        self.now += after
        fresh, time = self.next_id(), self.stamp(before)
        self.naive[user].login(
            self.now,
            client,
            connection_id=connection_id,
            fresh=fresh,
            time=time,
            user_agent=agent,
            threshold=threshold,
            timeout=timeout,
            announce=announce,
            meta=meta,
            peer=peer,
        )
        self.step(
            Login(
                user_id=UserId(user),
                client_id=ClientId(client),
                now=self.now,
                connection_id=None if connection_id is None else ConnectionId(connection_id),
                fresh_id=ConnectionId(fresh),
                time=time,
                user_agent=agent,
                idle_threshold_ms=threshold,
                timeout_ms=timeout,
                announce=announce,
                meta=meta,
                network_id=peer,
            )
        )

    @rule(
        user=users,
        client=clients,
        connection_id=ids,
        after=elapsed,
        before=ago,
        idle=st.sampled_from([None, True, False]),
        peer=peers,
    )
    def activity(
        self,
        *,
        user: str,
        client: str,
        connection_id: str | None,
        after: int,
        before: int | None,
        idle: bool | None,
        peer: int | None,
    ) -> None:
        self.now += after
        fresh, time = self.next_id(), self.stamp(before)
        self.naive[user].activity(
            self.now, client, connection_id=connection_id, fresh=fresh, idle=idle, told=time, peer=peer
        )
        self.step(
            Activity(
                user_id=UserId(user),
                client_id=ClientId(client),
                now=self.now,
                connection_id=None if connection_id is None else ConnectionId(connection_id),
                fresh_id=ConnectionId(fresh),
                idle=idle,
                last_activity=time,
                network_id=peer,
            )
        )

    @rule(
        user=users,
        client=clients,
        connection_id=ids,
        after=elapsed,
        reason=st.sampled_from([Reason.LOGOUT, Reason.LOST]),
    )
    def end(self, user: str, client: str, connection_id: str | None, after: int, reason: Reason) -> None:
        self.now += after
        self.naive[user].end(self.now, client, connection_id, reason.value)
        self.step(
            End(
                user_id=UserId(user),
                client_id=ClientId(client),
                now=self.now,
                reason=reason,
                connection_id=None if connection_id is None else ConnectionId(connection_id),
            )
        )

    @rule(
        user=users,
        client=clients,
        after=elapsed,
        peer=st.sampled_from([1, 2]),
        cause=causes,
        reason=st.sampled_from([Reason.LOGOUT, Reason.LOST, None]),
    )
    def gone(
        self, *, user: str, client: str, after: int, peer: int, cause: Cause, reason: Reason | None
    ) -> None:
        self.now += after
        self.naive[user].gone(self.now, client, peer, cause.value, reason and reason.value)
        self.step(
            NetworkClosed(
                user_id=UserId(user),
                client_id=ClientId(client),
                now=self.now,
                network_id=peer,
                cause=cause,
                reason=reason,
            )
        )

    @rule(
        user=users,
        client=clients,
        after=elapsed,
        peer=st.sampled_from([1, 2]),
        since=st.sampled_from([0, 500, 1_000]),
        listed=st.booleans(),
    )
    def opened(self, *, user: str, client: str, after: int, peer: int, since: int, listed: bool) -> None:
        self.now += after
        fresh = self.next_id()
        self.naive[user].opened(self.now, client, peer, self.now - since, fresh, listed=listed)
        self.step(
            NetworkOpened(
                user_id=UserId(user),
                client_id=ClientId(client),
                now=self.now,
                network_id=peer,
                connected_at=self.now - since,
                connection_id=ConnectionId(fresh),
                is_listed=listed,
            )
        )

    @rule(user=users, client=clients, after=elapsed, peer=st.sampled_from([1, 2]))
    def claimed(self, user: str, client: str, after: int, peer: int) -> None:
        self.now += after
        self.naive[user].claimed(self.now, client, peer)
        self.step(
            NetworkClaimed(user_id=UserId(user), client_id=ClientId(client), now=self.now, network_id=peer)
        )

    @rule(user=users, after=elapsed, since=st.sampled_from([0, 500, 1_000]))
    def lost(self, user: str, after: int, since: int) -> None:
        self.now += after
        self.naive[user].lost(self.now, self.now - since)
        self.step(ReportsLost(user_id=UserId(user), now=self.now, before=self.now - since))

    @rule(
        user=users, client=clients, after=elapsed, peer=st.sampled_from([1, 2]), heir=st.sampled_from([1, 2])
    )
    def moved(self, *, user: str, client: str, after: int, peer: int, heir: int) -> None:
        self.now += after
        self.naive[user].moved(client, peer, heir)
        self.step(
            NetworkReplaced(
                user_id=UserId(user),
                client_id=ClientId(client),
                now=self.now,
                network_id=peer,
                new_network_id=heir,
            )
        )

    @rule(by=set_back)
    def the_clock_is_set_back(self, by: int) -> None:
        """And until the bridge has got round to it, things happen."""
        self.now -= by

    @rule(user=users)
    def the_bridge_cuts_what_lies_ahead(self, user: str) -> None:
        self.naive[user].set_back(self.now)
        self.step(ClockSteppedBack(user_id=UserId(user), now=self.now))

    @rule(user=users, after=elapsed)
    def check(self, user: str, after: int) -> None:
        self.now += after
        self.naive[user].check(self.now)
        self.step(CheckDeadlines(user_id=UserId(user), now=self.now))

    @rule(user=users, after=elapsed, waited=st.sampled_from([0, 500, 1_000]))
    def confirm(self, user: str, after: int, waited: int) -> None:
        self.now += after
        self.naive[user].confirm(self.now, self.now - waited)
        self.step(EndUnconfirmed(user_id=UserId(user), now=self.now, announced_at=self.now - waited))

    @invariant()
    def a_client_has_one_open_connection_once_its_logins_are_in(self) -> None:
        for user in getattr(self, "real", {}).values():
            open_ones = [
                c.client_id for c in user.connections.values() if c.is_open and c.login_order is not None
            ]
            assert len(open_ones) == len(set(open_ones))

    @invariant()
    def newest_is_what_the_store_will_find(self) -> None:
        for user in getattr(self, "real", {}).values():
            found: dict[str, int] = {}
            for c in user.connections.values():
                if c.login_order is not None:
                    found[c.client_id] = max(found.get(c.client_id, 0), c.login_order)
            assert user.latest_login == found
            # Of two in one place, the store finds the one that told a time.
            assert user.latest_login_time == {
                client: max(times)
                for client, order in found.items()
                if (
                    times := [
                        c.client_time
                        for c in user.connections.values()
                        if (c.client_id, c.login_order) == (client, order) and c.client_time is not None
                    ]
                )
            }

    @invariant()
    def the_status_kept_is_the_status_computed(self) -> None:
        for user in getattr(self, "real", {}).values():
            status = user.status
            if status is not None:
                afresh = combine((c for c in user.connections.values() if c.is_live), Status(), self.now)
                assert (status.state, status.connections, status.idle) == (
                    afresh.state,
                    afresh.connections,
                    afresh.idle,
                )
                if afresh.last_activity is not None:
                    assert status.last_activity is not None
                    assert status.last_activity >= afresh.last_activity


BesideTheNaiveModel.TestCase.settings = settings(max_examples=250, stateful_step_count=30, deadline=None)
TestBesideTheNaiveModel = BesideTheNaiveModel.TestCase


# Properties of whole histories of one user.

MAX_AGO = 10_000
stamps = st.integers(START - MAX_AGO, START)
quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def named_messages(draw: st.DrawFn) -> Login | Activity | End:
    """A message of a client with connection ids and a `lastActivity`; `now` is set later."""
    client, connection_id = draw(clients), draw(st.sampled_from(["c1", "c2", "c3"]))
    who: dict[str, Any] = {
        "user_id": ALICE,
        "client_id": ClientId(client),
        "connection_id": ConnectionId(connection_id),
        "now": START,
    }
    match draw(st.sampled_from(["activity", "activity", "activity", "end"])):
        case "activity":
            return Activity(
                **who, idle=draw(st.sampled_from([None, True, False])), last_activity=draw(stamps)
            )
        case _:
            return End(**who, reason=draw(st.sampled_from([Reason.LOGOUT, Reason.LOST])))


@st.composite
def named_histories(draw: st.DrawFn) -> list[Event]:
    """Messages of clients with connection ids and times, with a login of each connection.

    Every connection has one `time`, no two the same, before any receipt.
    """
    messages: list[Any] = draw(st.lists(named_messages(), max_size=8))
    more = draw(st.lists(st.tuples(clients, st.sampled_from(["c1", "c2", "c3"])), max_size=3))
    connections = sorted({(m.client_id, m.connection_id) for m in messages} | set(more))
    assume(connections)
    times = draw(st.lists(stamps, min_size=len(connections), max_size=len(connections), unique=True))
    for (client, connection_id), time in zip(connections, times, strict=True):
        messages.append(
            Login(
                user_id=ALICE,
                client_id=ClientId(client),
                connection_id=ConnectionId(connection_id),
                now=START,
                time=time,
            )
        )
    return draw(st.permutations(messages))


def received(messages: list[Any], first: int = START) -> list[Any]:
    """Set the times of receipt, one after the other."""
    return [
        type(m)(**{name: getattr(m, name) for name in m.__struct_fields__} | {"now": first + 7 * n})
        for n, m in enumerate(messages)
    ]


DEFAULTS = RuleSettings()


def play(messages: list[Any], rule_settings: RuleSettings = DEFAULTS) -> UserPresence:
    user = UserPresence(user_id=ALICE)
    for message in messages:
        user = fold.fold(user, [message], rule_settings).user
    return user


def essence(user: UserPresence) -> tuple[Any, ...]:
    """Return the part of the result that must not depend on duplicates and order.

    Not receipt stamps, which are of the arrival by definition. Not the reason of an end: of a connection both
    superseded and lost, the first to come is on record. Not what an ended connection last said: once
    ended, what comes late is ignored (A3). And not the lastActivity shown for the user: it remembers what was
    shown on the way.
    """
    records = {
        (c.client_id, c.connection_id, c.is_open, *((c.idle, c.last_activity) if c.is_open else ()))
        for c in user.connections.values()
    }
    status = user.status
    assert status is not None
    return records, status.state, status.connections, status.last_login and status.last_login.order


@quick
@given(named_histories(), st.data())
def test_duplicates_do_not_change_the_result(messages: list[Any], data: st.DataObject) -> None:
    """A duplicate, at any later time, changes neither connections nor status."""
    with_duplicates = list(messages)
    for _ in range(data.draw(st.integers(1, 4))):
        which = data.draw(st.integers(0, len(with_duplicates) - 1))
        where = data.draw(st.integers(which + 1, len(with_duplicates)))
        with_duplicates.insert(where, with_duplicates[which])
    assert essence(play(received(with_duplicates))) == essence(play(received(messages)))


@quick
@given(named_histories(), st.data())
def test_the_order_of_arrival_does_not_change_the_result(messages: list[Any], data: st.DataObject) -> None:
    """After all logins, any order of arrival gives the same result (with connectionId and `time`)."""
    shuffled = data.draw(st.permutations(messages))
    assert essence(play(received(shuffled))) == essence(play(received(messages)))


@quick
@given(named_histories(), st.integers(0, 60_000))
def test_when_messages_arrive_does_not_change_the_result(messages: list[Any], delay: int) -> None:
    """A bridge that was away for a minute has the same result."""
    assert essence(play(received(messages, START + delay))) == essence(play(received(messages)))


@quick
@given(named_histories(), st.data())
def test_the_order_of_processing_by_several_bridges_does_not_change_the_result(
    messages: list[Any], data: st.DataObject
) -> None:
    """Each has a clock of its own, and messages may wait in it after their receipt (D1, D2)."""
    tolerant = RuleSettings(clock_tolerance_ms=1_000)
    user = UserPresence(user_id=ALICE)
    for message in data.draw(st.permutations(messages)):
        told = getattr(message, "time", None) or getattr(message, "last_activity", None) or START - MAX_AGO
        received_at = data.draw(st.integers(told - tolerant.clock_tolerance_ms, START))
        # Less than half of the tolerance: another clock may be ahead by as much.
        present = START - data.draw(st.integers(0, 400))
        event = replace(message, now=min(received_at, present))
        assume(told <= event.now + tolerant.clock_tolerance_ms)
        user = fold.fold(user, [event], tolerant, present=present).user
    for c in user.connections.values():
        assert c.logout_time is None or c.opened_at is None or c.opened_at <= c.logout_time
    assert essence(user) == essence(play(received(messages), tolerant))


@quick
@given(st.lists(st.booleans(), min_size=1, max_size=4), st.booleans(), st.data())
def test_logins_without_a_time_count_by_their_receipt(
    have_times: list[bool], have_wills: bool, data: st.DataObject
) -> None:
    """Whichever bridge processes them first (D4). Of the connections of a client, the last one stays."""
    several = RuleSettings(clock_tolerance_ms=1_000)
    events: list[Event] = []
    for n, has_time in enumerate(have_times):
        now = START + 3_000 * n
        who = {"user_id": ALICE, "client_id": ClientId("phone"), "connection_id": ConnectionId(f"c{n}")}
        events.append(Login(**who, now=now, time=now - 5 if has_time else None))
        if have_wills and n < len(have_times) - 1:
            events.append(End(**who, now=now + 1_500, reason=Reason.LOST))
    present = START + 3_000 * len(have_times)
    user = UserPresence(user_id=ALICE)
    for event in data.draw(st.permutations(events)):
        user = fold.fold(user, [event], several, present=present).user
    assert {c.connection_id for c in user.connections.values() if c.is_open} == {f"c{len(have_times) - 1}"}


@st.composite
def any_events(draw: st.DrawFn) -> Event:
    """Any event of a user."""
    after = draw(elapsed)
    match draw(
        st.sampled_from(["login"] * 2 + ["activity"] * 3)
        | st.sampled_from(["end", "gone", "moved", "check", "confirm", "set back"])
        | st.sampled_from(["opened", "claimed", "lost"])
    ):
        case "set back":
            return ClockSteppedBack(user_id=ALICE, now=after)
        case "check":
            return CheckDeadlines(user_id=ALICE, now=after)
        case "confirm":
            return EndUnconfirmed(user_id=ALICE, now=after, announced_at=draw(st.sampled_from([0, 500])))
        case "opened":
            return NetworkOpened(
                user_id=ALICE,
                client_id=ClientId(draw(clients)),
                now=after,
                network_id=draw(st.sampled_from([1, 2])),
                connected_at=draw(st.sampled_from([0, 500])),
                connection_id=ConnectionId(""),
                is_listed=draw(st.booleans()),
            )
        case "claimed":
            return NetworkClaimed(
                user_id=ALICE,
                client_id=ClientId(draw(clients)),
                now=after,
                network_id=draw(st.sampled_from([1, 2])),
            )
        case "lost":
            return ReportsLost(user_id=ALICE, now=after, before=draw(st.sampled_from([0, 500])))
        case "moved":
            return NetworkReplaced(
                user_id=ALICE,
                client_id=ClientId(draw(clients)),
                now=after,
                network_id=draw(st.sampled_from([1, 2])),
                new_network_id=draw(st.sampled_from([1, 2])),
            )
        case "gone":
            return NetworkClosed(
                user_id=ALICE,
                client_id=ClientId(draw(clients)),
                now=after,
                network_id=draw(st.sampled_from([1, 2])),
                cause=draw(causes),
                reason=draw(st.sampled_from([Reason.LOGOUT, Reason.LOST, None])),
            )
        case verb:
            connection_id = draw(ids)
            who: dict[str, Any] = {
                "user_id": ALICE,
                "client_id": ClientId(draw(clients)),
                "now": after,
                "connection_id": None if connection_id is None else ConnectionId(connection_id),
            }
            if verb == "end":
                return End(**who, reason=draw(st.sampled_from([Reason.LOGOUT, Reason.LOST])))
            if verb == "login":
                return Login(
                    **who,
                    time=draw(ago),
                    idle_threshold_ms=draw(durations),
                    timeout_ms=draw(durations),
                    announce=draw(st.sampled_from([None, True, False])),
                    user_agent=draw(st.sampled_from([None, "A", "B", ""])),
                    meta=draw(metas),
                    network_id=draw(peers),
                )
            return Activity(
                **who,
                idle=draw(st.sampled_from([None, True, False])),
                last_activity=draw(ago),
                network_id=draw(peers),
            )


@st.composite
def any_histories(draw: st.DrawFn) -> list[Event]:
    """Any events on one clock, which is set back at times."""
    now, events = START, []
    for n, event in enumerate(draw(st.lists(any_events(), max_size=20))):
        now += event.now - draw(st.just(0) | st.just(0) | st.just(0) | set_back)
        changes: dict[str, Any] = {"now": now}
        if isinstance(event, Login | Activity):
            changes["fresh_id"] = ConnectionId(f"made up {n}")
            name = "time" if isinstance(event, Login) else "last_activity"
            before = getattr(event, name)
            changes[name] = None if before is None else now - before
        if isinstance(event, NetworkOpened):
            changes["connection_id"] = ConnectionId(f"made up {n}")
            changes["connected_at"] = now - event.connected_at
        if isinstance(event, ReportsLost):
            changes["before"] = now - event.before
        if isinstance(event, EndUnconfirmed):
            changes["announced_at"] = now - event.announced_at
        fields = {name: getattr(event, name) for name in event.__struct_fields__}
        events.append(type(event)(**fields | changes))
    return events


some_settings = st.builds(
    RuleSettings,
    idle_threshold_ms=st.sampled_from([1_000, 60_000]),
    expire_after_ms=st.sampled_from([None, 2_000]),
    grace_ms=st.sampled_from([0, 1_500]),
    max_connections=st.sampled_from([None, None, 1, 2]),
    clock_tolerance_ms=st.sampled_from([0, 0, 300, 1_000]),
)


@quick
@given(any_histories(), some_settings)
def test_a_batch_comes_to_the_same_as_its_messages_one_by_one(
    events: list[Event], rule_settings: RuleSettings
) -> None:
    """Batches change only the number of published versions."""
    batch = fold.fold(UserPresence(user_id=ALICE), events, rule_settings)
    user, one_by_one, ignored, saved = UserPresence(user_id=ALICE), [], [], {}
    for event in events:
        outcome = fold.fold(user, [event], rule_settings)
        user = outcome.user
        one_by_one += outcome.events
        ignored += outcome.ignored
        save(saved, outcome)
    assert batch.user.connections == user.connections
    assert (batch.user.latest_login, batch.user.latest_login_time) == (
        user.latest_login,
        user.latest_login_time,
    )
    assert batch.user.status == user.status
    assert batch.user.last_seen == user.last_seen
    assert list(batch.ignored) == ignored
    # One message may end several connections of a client at once: in whichever order.
    assert sorted(map(repr, batch.events)) == sorted(map(repr, one_by_one))
    at_once: dict[tuple[str, ...], Connection] = {}
    save(at_once, batch)
    assert at_once == saved
    assert set(saved.values()) == set(user.connections.values())
    assert batch.user.version <= 1
    assert batch.user.version == batch.status_changed


@quick
@given(any_histories(), some_settings, st.integers(0, 10_000))
def test_a_check_is_only_needed_when_it_is_due(
    events: list[Event], rule_settings: RuleSettings, later: int
) -> None:
    """A check before the earliest `check_at` has no effect."""
    user = play(events, rule_settings)
    now = (events[-1].now if events else START) + later
    due = [c.check_at for c in user.connections.values() if c.check_at is not None]
    if not due or now < min(due):
        outcome = fold.fold(user, [CheckDeadlines(user_id=ALICE, now=now)], rule_settings)
        assert outcome.changed == outcome.touched == ()
        # And had every record been looked at, nothing would have come of it either.
        for c in user.connections.values():
            if c.is_open:
                assert not deadlines.is_expired(c, rule_settings, now)
                assert not deadlines.is_idle(c, rule_settings, now)


@quick
@given(any_histories(), some_settings, st.integers(0, 6_000))
def test_after_the_clock_was_set_back_silence_counts_from_now(
    events: list[Event], rule_settings: RuleSettings, jump: int
) -> None:
    """Whatever has happened: who says nothing from then on becomes idle, ends and loses its grace in the time that
    it has for that, and nothing else of it has changed.
    """
    user = play(events, rule_settings)
    now = (events[-1].now if events else START) - jump
    outcome = fold.fold(user, [ClockSteppedBack(user_id=ALICE, now=now)], rule_settings)
    assert (outcome.events, outcome.status_changed, outcome.touched) == ((), False, ())
    for c in outcome.user.connections.values():
        if c.is_open:
            assert c.last_seen <= now
            assert deadlines.active_at(c) <= now
            timeout = c.timeout_ms if c.timeout_ms is not None else rule_settings.expire_after_ms
            assert timeout is None or (c.check_at is not None and c.check_at <= now + timeout + 1)
            assert c.idle_threshold_ms is None or c.idle or (c.check_at or 0) <= now + c.idle_threshold_ms + 1
            before = user.connections[c.client_id, c.connection_id]
            assert c.unconfirmed_since is None or c.unconfirmed_since <= now
            assert (c.unconfirmed_since is None) == (before.unconfirmed_since is None)
            times = dict.fromkeys(("last_activity", "opened_at", "check_at", "unconfirmed_since"))
            assert replace(c, last_seen=0, **times) == replace(before, last_seen=0, **times)
        elif c.is_live:
            assert c.check_at is not None
            assert c.check_at <= now + rule_settings.grace_ms
    # What does not lie ahead is left alone; and then nothing does.
    changed = {(c.client_id, c.connection_id) for c in outcome.changed}
    for key, c in user.connections.items():
        times = (c.last_seen, c.last_activity or 0, c.opened_at or 0, c.unconfirmed_since or 0)
        ahead = max(times) > now
        graced = not c.is_open and (c.check_at or 0) > now + rule_settings.grace_ms
        assert (key in changed) == (ahead if c.is_open else graced)
    assert fold.fold(outcome.user, [ClockSteppedBack(user_id=ALICE, now=now)], rule_settings).changed == ()


@quick
@given(any_histories(), some_settings, clients, st.sampled_from([None, 0, 1]), set_back | st.just(0))
def test_who_logs_in_by_the_time_it_is_now_is_here(
    events: list[Event], rule_settings: RuleSettings, client: str, before: int | None, jump: int
) -> None:
    """Whatever time it was before: a new connection whose login comes now, and says so, is the client's newest."""
    rule_settings = replace(rule_settings, max_connections=None)
    user = play(events, rule_settings)
    now = (events[-1].now if events else START) - jump
    newest_time = user.latest_login_time.get(ClientId(client))
    time = None if before is None else now - before
    # A later one is known: L4.
    believed = now + rule_settings.clock_tolerance_ms
    assume(time is None or newest_time is None or not time < newest_time <= believed)
    who = {"user_id": ALICE, "client_id": ClientId(client), "connection_id": ConnectionId("new")}
    after = fold.fold(user, [Login(**who, now=now, time=time)], rule_settings).user
    assert after.connections[ClientId(client), ConnectionId("new")].is_open
    open_ones = [c for c in after.connections.values() if c.is_open and c.client_id == client]
    assert all(c.login_order is None or c.connection_id == "new" for c in open_ones)


@quick
@given(any_histories(), some_settings)
def test_what_is_given_is_never_changed(events: list[Event], rule_settings: RuleSettings) -> None:
    """The rules do not change their arguments: the same call again has the same result."""
    user = play(events, rule_settings)
    check = CheckDeadlines(user_id=ALICE, now=START + 10**9)
    before = (dict(user.connections), dict(user.latest_login), user.status)
    first = fold.fold(user, [check], rule_settings)
    assert (dict(user.connections), dict(user.latest_login), user.status) == before
    assert fold.fold(user, [check], rule_settings) == first


@quick
@given(any_histories(), some_settings, st.sampled_from([1, 2]), clients, causes)
def test_an_end_that_the_broker_tells_touches_nothing_of_another_connection(
    events: list[Event], rule_settings: RuleSettings, peer: int, client: str, cause: Cause
) -> None:
    """Whatever has happened: the records of other clients, and those that came by another of the broker's
    connections, whenever they logged in, are as before.
    """
    user = play(events, rule_settings)
    now = (events[-1].now if events else START) + 1
    gone = NetworkClosed(
        user_id=ALICE, client_id=ClientId(client), now=now, network_id=peer, cause=cause, reason=Reason.LOST
    )
    orders = [c.login_order for c in user.connections.values() if c.client_id == client and c.login_order]
    outcome = fold.fold(user, [gone], rule_settings)
    for key, before in user.connections.items():
        after = outcome.user.connections[key]
        is_latest = bool(orders) and before.login_order == max(orders)
        if (before.client_id, before.network_id) != (client, peer) or not (before.is_live or is_latest):
            assert after == before
        else:
            assert not after.is_open
            assert after.cause is not None
    # Once more, as the broker may deliver it, it changes nothing.
    again = fold.fold(outcome.user, [gone], rule_settings)
    assert (again.changed, again.events) == ((), ())


# Limits.


@quick
@given(any_histories(), some_settings, st.integers(0, 4))
def test_what_a_limit_refuses_has_no_effect(
    events: list[Event], rule_settings: RuleSettings, new_records: int
) -> None:
    """The limits of live connections and records hold, and a refused message has no effect."""
    user, left = UserPresence(user_id=ALICE), new_records
    for event in events:
        outcome = fold.fold(user, [event], rule_settings, left)
        left -= outcome.created
        assert outcome.created == len(outcome.user.connections) - len(user.connections)
        if capacity.LIMITS.intersection(outcome.ignored):
            assert outcome.user == user
            assert outcome.changed == outcome.touched == outcome.events == ()
        user = outcome.user
        if rule_settings.max_connections is not None:
            assert sum(c.is_live for c in user.connections.values()) <= rule_settings.max_connections
    assert left >= 0
    at_once = fold.fold(UserPresence(user_id=ALICE), events, rule_settings, new_records)
    assert at_once.user.connections == user.connections
    assert at_once.created == new_records - left


@quick
@given(any_histories(), some_settings, st.data())
def test_an_end_is_always_heard(
    events: list[Event], rule_settings: RuleSettings, data: st.DataObject
) -> None:
    """At any limit, the end of an open connection is accepted, and makes room."""
    user = play(events, rule_settings)
    open_ones = [key for key, c in user.connections.items() if c.is_open]
    assume(open_ones)
    key = data.draw(st.sampled_from(open_ones))
    end = End(user_id=ALICE, client_id=key[0], now=START + 10**6, reason=Reason.LOST, connection_id=key[1])
    outcome = fold.fold(user, [end], rule_settings, 0)
    assert not outcome.user.connections[key].is_open
    assert outcome.ignored == ()


@quick
@given(any_histories(), some_settings)
def test_after_a_flood_the_next_sign_of_life_is_enough(
    events: list[Event], rule_settings: RuleSettings
) -> None:
    """When the limits have room again, the next heartbeat of a refused client is accepted."""
    user = play(events, rule_settings)
    late = START + 10**6
    for c in list(user.connections.values()):
        if c.is_open:
            end = End(
                user_id=ALICE,
                client_id=c.client_id,
                now=late,
                reason=Reason.LOGOUT,
                connection_id=c.connection_id,
            )
            user = fold.fold(user, [end], rule_settings).user
    user = fold.fold(user, [CheckDeadlines(user_id=ALICE, now=late + 10_000)], rule_settings).user
    who = {"user_id": ALICE, "client_id": ClientId("watch"), "connection_id": ConnectionId("new")}
    login = Login(**who, now=late + 10_001)
    refused = fold.fold(user, [login], rule_settings, 0)
    assert refused.ignored == (capacity.TOO_MANY_RECORDS,)
    assert refused.user == user
    heartbeat = Activity(**who, now=late + 30_000)
    assert fold.fold(user, [heartbeat], rule_settings, 0).ignored == (capacity.TOO_MANY_RECORDS,)
    opened = fold.fold(user, [heartbeat], rule_settings, 1).user
    assert opened.connections[ClientId("watch"), ConnectionId("new")].is_open
