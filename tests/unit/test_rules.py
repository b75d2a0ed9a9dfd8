"""The rules, case by case: the table of tests/cases.py, played through `incoming.parse` and `fold`."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from mqtt_presence.protocol import incoming, outgoing
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules import fold
from mqtt_presence.rules.events import (
    Activity,
    CheckDeadlines,
    End,
    EndUnconfirmed,
    Event,
    Login,
    NetworkClosed,
    Renew,
)
from mqtt_presence.rules.model import (
    Cause,
    Connection,
    ConnectionEvent,
    ConnectionId,
    Outcome,
    Reason,
    RuleSettings,
    UserEvent,
    UserId,
    UserPresence,
)
from tests import cases
from tests.cases import CASES, HOUR, MADE_UP, At, Case, Received, Record

BASE = 1_800_000_000_000
TOPICS = Topics()
ROWS = (
    "L1",
    "L2",
    "L3",
    "L4",
    "A1",
    "A2",
    "A3",
    "E1",
    "E2",
    "B1",
    "B2",
    "B3",
    "grace",
    "status",
    "duplicates",
    "identity",
)


class Play:
    """A case, played through the rules: the resulting users, and the events on the way."""

    def __init__(self, case: Case) -> None:
        self.settings = RuleSettings(**case.settings)
        self.users: dict[str, UserPresence] = {}
        self.events: list[ConnectionEvent | UserEvent] = []
        self.ignored: list[str] = []
        self.outcomes: list[Outcome] = []
        if case.batch:
            self._fold("alice", [event for step in case.steps for _, event in self._events(step)])
        else:
            for step in case.steps:
                for user_id, event in self._events(step):
                    self._fold(user_id, [event])

    def _events(self, step: cases.Step) -> list[tuple[str, Event]]:
        if step[0] == "check":
            return [(user, CheckDeadlines(user_id=UserId(user), now=BASE + step[1])) for user in self.users]
        if step[0] == "confirm":
            now, since = BASE + step[1], BASE + step[2]
            return [
                (user, EndUnconfirmed(user_id=UserId(user), now=now, announced_at=since))
                for user in self.users
            ]
        user, client, verb, payload, at = step
        name = TOPICS.parse_input(TOPICS.input(user, client, verb))
        event = incoming.parse(name, cases.body(payload, BASE), BASE + at, "192.0.2.7")
        assert isinstance(event, Login | Activity | End)
        return [(user, event)]

    def _fold(self, user_id: str, events: list[Event]) -> None:
        user = self.users.get(user_id) or UserPresence(user_id=UserId(user_id))
        outcome = fold.fold(user, events, self.settings)
        self.users[user_id] = outcome.user
        self.events += outcome.events
        self.ignored += outcome.ignored
        self.outcomes.append(outcome)

    def records(self) -> list[Connection]:
        return [c for user in self.users.values() for c in user.connections.values()]

    def status(self, user_id: str) -> dict[str, Any] | None:
        user = self.users.get(user_id)
        if user is None or user.status is None:
            return None
        return json.loads(
            outgoing.encode_status(
                user_id, user.status, version=user.version, last_seen=user.last_seen, private=True
            )
        )


def wire_time(time: At | Received | None) -> str | None:
    return None if time is None else outgoing.to_iso(BASE + time.ms)


def connection_name(connection: Connection) -> str:
    return f"{connection.client_id}/{connection.connection_id if connection.client_named else MADE_UP}"


def told(event: ConnectionEvent | UserEvent) -> str:
    if isinstance(event, UserEvent):
        return f"{event.user_id} {event.name}"
    return f"{event.connection.user_id} {event.name} {connection_name(event.connection)}"


def by_name(record: Record) -> tuple[Any, ...]:
    return (record.user, record.client, record.id, str(record.reason), str(record.last))


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def test_case_leaves_its_records(case: Case) -> None:
    """Which connections a history leaves, open or ended, why, and how idle, is what its case says."""
    found = [
        Record(
            client=c.client_id,
            id=c.connection_id if c.client_named else MADE_UP,
            reason=c.reason.value if c.reason else None,
            idle=c.idle,
            last=None if c.last_activity is None else At(c.last_activity - BASE),
            user=c.user_id,
        )
        for c in Play(case).records()
    ]
    expected = [
        Record(r.client, r.id, r.reason, r.idle, None if r.last is None else At(r.last.ms), r.user)
        for r in case.records
    ]
    assert sorted(found, key=by_name) == sorted(expected, key=by_name)


def test_case_leaves_its_status(case: Case) -> None:
    """The history leaves the status of its case, as it is published."""
    play = Play(case)
    for user_id, expected in case.status.items():
        found = play.status(user_id)
        if expected is None:
            assert found is None
            continue
        assert found is not None
        last_login = found.pop("lastLogin", {})
        for field in ("userId", "since", "lastSeen", "version"):
            del found[field]
        wanted = dict(expected)
        if "lastLogin" in wanted:
            assert last_login["userAgent"] == wanted.pop("lastLogin")["userAgent"]
        if "lastActivity" in wanted:
            wanted["lastActivity"] = wire_time(wanted["lastActivity"])
        assert found == wanted


def test_case_events_come_in_order(case: Case) -> None:
    """Each event comes once, in the order of the case, and no other event comes."""
    assert tuple(told(event) for event in Play(case).events) == case.events


def test_case_ignored_messages_are_accounted_for(case: Case) -> None:
    """Every message without an effect has its reason, and no other message has one."""
    assert tuple(Play(case).ignored) == case.ignored


def test_case_version_grows_once_for_each_publication(case: Case) -> None:
    """The version grows by one exactly when the status is published."""
    play = Play(case)
    for outcome in play.outcomes:
        assert outcome.user.version >= outcome.status_changed
    for user_id, user in play.users.items():
        published = sum(o.status_changed for o in play.outcomes if o.user.user_id == user_id)
        assert user.version == published
    if case.versions is not None:
        assert play.users["alice"].version == case.versions


def test_case_changed_records_are_all_that_changed(case: Case) -> None:
    """An outcome names all changed records: saving these saves everything."""
    saved: dict[tuple[str, ...], Connection] = {}
    play = Play(case)
    for outcome in play.outcomes:
        cases.save(saved, outcome)
    assert saved == {(c.user_id, c.client_id, c.connection_id): c for c in play.records()}


def test_case_names_are_unique() -> None:
    """Each case has its own name."""
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("row", ROWS)
def test_case_table_covers_the_row(row: str) -> None:
    """Every row of the rules has a case."""
    assert [case for case in CASES if row in case.rows.split()]


def test_case_table_covers_every_event() -> None:
    """Every documented event has a case."""
    names = {event.split()[1] for case in CASES for event in case.events}
    assert names == {
        "connectionLogin",
        "connectionLogout",
        "connectionIdle",
        "connectionActive",
        "userOnline",
        "userOffline",
        "userIdle",
        "userActive",
    }


@pytest.mark.parametrize("case", [case for case in CASES if case.wire], ids=lambda case: case.name)
def test_wire_case_holds_on_any_clock(case: Case) -> None:
    """A case for a real broker needs no clock: its times lie before the start, or far ahead."""
    assert not case.settings
    for step in case.steps:
        assert len(step) == 5
        times = [v.ms for v in step[3].values() if isinstance(v, At)]
        assert all(ms < 0 or ms >= HOUR for ms in times)
        assert step[4] >= 0


# Beyond the table: times, and the other fields of the status.


def at(ms: int) -> int:
    return BASE + ms


def play(*steps: cases.Step, **settings: int) -> Play:
    return Play(Case("", "", steps, (), {}, (), settings=settings))


def test_since_is_when_the_state_last_changed() -> None:
    """`since` moves with the state only: not with a second login, nor with a newer lastActivity."""
    story = [cases.login(10), cases.login(20, "c2", "tablet")]
    assert play(*story).users["alice"].status.since == at(10)
    story += [cases.idle(30, At(-9)), cases.idle(40, At(-8), "c2", "tablet")]
    assert play(*story).users["alice"].status.since == at(40)
    story += [cases.idle(50, At(-7)), cases.logout(60)]
    assert play(*story).users["alice"].status.since == at(40)
    story += [cases.logout(70, "c2", "tablet")]
    assert play(*story).users["alice"].status.since == at(70)


def test_since_of_a_user_whose_login_arrives_after_its_end_is_that_arrival() -> None:
    """A login after its own end creates the user, offline since that moment, in one batch or several."""
    steps = (cases.will(10), cases.login(20), cases.login(30))
    for batch in (False, True):
        user = Play(Case("", "", steps, (), {}, (), batch=batch)).users["alice"]
        assert user.status.since == at(20)
        assert user.version == 1


def test_login_and_logout_time_are_the_bridge_clock_on_receipt() -> None:
    """The `time` of a client is never used as loginTime or logoutTime."""
    (record,) = play(cases.login(10, time=At(-500)), cases.will(30)).records()
    assert (record.login_time, record.logout_time) == (at(10), at(30))


def test_login_time_of_a_late_login_is_that_of_the_first_message() -> None:
    """A connection opened by activity keeps the loginTime of its event."""
    (record,) = play(cases.beat(10), cases.login(30, time=At(-500))).records()
    assert record.login_time == at(10)


def test_logout_time_stays_when_a_guess_is_made_certain_and_goes_when_it_is_taken_back() -> None:
    """A guessed end keeps its time when a will confirms it; a reopened connection has none."""
    guessed = (cases.login(0, timeout=5), cases.check(5_001))
    (record,) = play(*guessed, cases.will(9_000)).records()
    assert (record.logout_time, record.reason) == (at(5_001), Reason.LOST)
    (record,) = play(*guessed, cases.beat(9_000)).records()
    assert (record.login_time, record.logout_time, record.reason) == (at(0), None, None)


def test_an_older_login_is_kept_as_a_record_already_ended() -> None:
    """A login older than the client's latest is kept with its fields, as ended on receipt (L4)."""
    story = play(cases.login(0, "c2", time=At(-100)), cases.login(10, time=At(-200), userAgent="old"))
    record = next(c for c in story.records() if c.connection_id == "c1")
    assert (record.user_agent, record.login_time, record.logout_time) == ("old", at(10), at(10))


TOLD = {"userAgent": "A", "meta": {"a": 1}, "idleThreshold": 5, "timeout": 50, "announce": True}


@pytest.mark.parametrize("again", [{}, dict.fromkeys(TOLD), {"connectionId": "c1", "unknown": 1}], ids=str)
@pytest.mark.parametrize("guessed_end", [False, True])
def test_a_repeated_login_keeps_what_it_does_not_mention(again: dict[str, Any], guessed_end: bool) -> None:
    """Absent and null fields keep their values (L2), also when the login reopens the record (L3)."""
    between = [("check", 90_000)] if guessed_end else []
    (record,) = play(cases.login(0, **TOLD), *between, cases.login(91_000, **again)).records()
    assert record.is_open
    assert (record.user_agent, record.meta) == ("A", '{"a": 1}')
    assert (record.idle_threshold_ms, record.timeout_ms, record.announce) == (5_000, 50_000, True)


@pytest.mark.parametrize(
    ("field", "value", "name", "cleared"),
    [
        ("userAgent", "", "user_agent", None),
        ("meta", {}, "meta", None),
        ("idleThreshold", 0, "idle_threshold_ms", None),
        ("timeout", 0, "timeout_ms", None),
        ("announce", False, "announce", False),
    ],
)
def test_a_repeated_login_clears_what_it_says_is_empty(
    field: str, value: Any, name: str, cleared: Any
) -> None:
    """An empty value clears its field and keeps the others; in a first login it has no effect."""
    (record,) = play(cases.login(0, **TOLD), cases.login(10, **{field: value})).records()
    (kept,) = play(cases.login(0, **TOLD), cases.login(10)).records()
    assert record == replace(kept, **{name: cleared, "check_at": record.check_at})
    (first,) = play(cases.login(0, **{field: value})).records()
    assert getattr(first, name) == cleared


def test_a_repeated_login_refreshes_what_it_tells() -> None:
    """A login again (L2) brings user agent, meta, thresholds and lastSeen up to date, and nothing else."""
    before = {"userAgent": "A", "meta": {"a": 1}, "idleThreshold": 5, "timeout": 50, "announce": False}
    after = {"userAgent": "B", "meta": {"b": 2}, "idleThreshold": 6, "timeout": 60, "announce": True}
    (record,) = play(cases.login(0, **before), cases.login(10, **after)).records()
    assert record.user_agent == "B"
    assert json.loads(record.meta) == {"b": 2}
    assert (record.idle_threshold_ms, record.timeout_ms, record.announce) == (6_000, 60_000, True)
    assert (record.last_seen, record.login_time) == (at(10), at(0))


def test_the_last_login_is_dated_by_the_bridge_and_chosen_by_the_told_time() -> None:
    """The lastLogin is the record latest by `time`, its date the bridge's; its logout changes nothing."""
    story = play(
        cases.login(0, "c2", "tablet", time=At(-100), userAgent="new"),
        cases.login(10, time=At(-200), userAgent="old"),
        cases.logout(20, "c2", "tablet"),
    )
    last = story.users["alice"].status.last_login
    assert (last.user_agent, last.date, last.ip_addr) == ("new", at(0), "192.0.2.7")


def test_an_event_carries_the_record_as_it_was_then() -> None:
    """An event shows its connection right after what it tells, whatever has come since."""
    events = [
        e
        for e in play(cases.login(0), cases.idle(10, At(-5)), cases.logout(20)).events
        if isinstance(e, ConnectionEvent)
    ]
    assert [(e.connection.idle, e.connection.logout_time) for e in events] == [
        (None, None),
        (True, None),
        (True, at(20)),
    ]


def test_user_events_carry_the_number_of_connections() -> None:
    """The event userOnline tells how many connections there are now, userOffline that there are none."""
    events = [e for e in play(cases.login(0), cases.logout(20)).events if isinstance(e, UserEvent)]
    assert [(e.name, e.connections, e.time) for e in events] == [
        ("userOnline", 1, at(0)),
        ("userOffline", 0, at(20)),
    ]


def test_last_seen_is_the_latest_receipt() -> None:
    """The lastSeen of a user is the last message received of it, and does not go back with the clock."""
    assert play(cases.login(10), cases.beat(30), cases.beat(20)).users["alice"].last_seen == at(30)


def test_the_bridge_looks_again_no_later_than_it_must() -> None:
    """`check_at` tells the store when B1, B2 and the end of a grace are due: never later than that."""
    (record,) = play(cases.login(0)).records()
    assert record.check_at is None
    (record,) = play(cases.login(0, idleThreshold=5, timeout=8)).records()
    assert record.check_at == at(5_001)
    (record,) = play(cases.login(0, idleThreshold=5, timeout=8), cases.check(5_001)).records()
    assert record.check_at == at(8_001)
    (record,) = play(cases.login(0, idleThreshold=9), cases.login(1, idleThreshold=5)).records()
    assert record.check_at == at(5_001)
    (record,) = play(cases.login(0), cases.will(10), grace_ms=1_000).records()
    assert record.check_at == at(1_010)
    (record,) = play(cases.login(0), cases.will(10)).records()
    assert record.check_at is None


def test_an_event_that_names_nothing_and_has_no_fresh_id_is_a_programming_error() -> None:
    """The rules make up no ids: they say so instead of naming a connection None."""
    empty = UserPresence(user_id=UserId("alice"))
    login = Login(user_id=UserId("alice"), client_id="phone", now=BASE)
    with pytest.raises(ValueError, match="fresh_id"):
        fold.fold(empty, [login], RuleSettings())
    named = Login(user_id=UserId("alice"), client_id="phone", now=BASE, fresh_id=ConnectionId("x"))
    assert fold.fold(empty, [named], RuleSettings()).status_changed


def test_folding_nothing_changes_nothing() -> None:
    """No events, no change, nothing to save or to publish."""
    user = play(cases.login(0)).users["alice"]
    outcome = fold.fold(user, [], RuleSettings())
    assert (outcome.user, outcome.changed, outcome.events, outcome.status_changed) == (user, (), (), False)


def test_a_login_that_replaces_a_connection_needs_no_room() -> None:
    """Also one without a `time` whose client has only been heard of by its activity (A2): it ends as without a limit."""
    narrow = RuleSettings(max_connections=1)
    user = UserPresence(user_id="alice")
    heard = Activity(user_id="alice", client_id="phone", now=BASE, connection_id="c1")
    login = Login(user_id="alice", client_id="phone", now=BASE + 1, connection_id="c2")
    limited = fold.fold(user, [heard, login], narrow)
    assert limited.ignored == ()
    assert limited.user.connections == fold.fold(user, [heard, login], RuleSettings()).user.connections


@pytest.mark.parametrize("late", [None, False])
def test_a_late_message_without_a_last_activity_changes_nothing(late: bool | None) -> None:
    """It has waited in a frozen bridge, while another one processed the report that the client is idle."""
    who = {"user_id": "alice", "client_id": "phone", "connection_id": "c1"}
    login, idle = Login(**who, now=BASE), Activity(**who, now=at(10_000), idle=True, last_activity=at(3_000))
    beat = Activity(**who, now=at(1_000), idle=late)
    several = RuleSettings(clock_tolerance_ms=1_000)
    user = UserPresence(user_id="alice")
    for event, present in ((login, BASE), (idle, at(10_000)), (beat, at(60_000))):
        user = fold.fold(user, [event], several, present=present).user
    (record,) = user.connections.values()
    assert (record.idle, record.last_activity, record.last_seen) == (True, at(3_000), at(10_000))


def test_a_late_message_takes_no_activity_back() -> None:
    """It reopens a connection whose end was a guess; the last activity was processed by another bridge."""
    who = {"user_id": "alice", "client_id": "phone", "connection_id": "c1"}
    login = Login(**who, now=BASE, announce=True)
    active = Activity(**who, now=at(1_800), idle=False, last_activity=at(1_800))
    gone = EndUnconfirmed(user_id="alice", now=at(5_000), announced_at=at(2_000))
    late = Activity(**who, now=at(1_500), idle=False, last_activity=at(1_500))
    user = UserPresence(user_id="alice")
    for event in (login, active, gone, late):
        user = fold.fold(user, [event], RuleSettings(), present=at(6_000)).user
    (record,) = user.connections.values()
    assert (record.is_open, record.last_activity) == (True, at(1_800))


def test_a_logout_keeps_the_cause_that_the_broker_has_reported() -> None:
    """The broker reports the DISCONNECT before the bridge reads the client's logout."""
    login = Login(user_id="alice", client_id="phone", now=BASE, connection_id="c1", network_id=1)
    who = {"user_id": "alice", "client_id": "phone", "now": BASE + 1}
    gone = NetworkClosed(**who, network_id=1, cause=Cause.DISCONNECT, reason=None)
    logout = End(**who, connection_id="c1", reason=Reason.LOGOUT)
    user = fold.fold(UserPresence(user_id="alice"), [login, gone, logout], RuleSettings()).user
    (record,) = user.connections.values()
    assert (record.reason, record.cause) == (Reason.LOGOUT, Cause.DISCONNECT)


def test_a_renewed_status_has_a_new_version_and_no_event() -> None:
    """It is said once more, as it is; of whom nothing was ever said, nothing is said now."""
    story = play(cases.login(0))
    (user,) = story.users.values()
    again = fold.fold(user, [Renew(user_id="alice", now=at(10))], RuleSettings())
    assert (again.status_changed, again.user.version, again.events) == (True, user.version + 1, ())
    assert (again.user.status, again.changed, again.touched) == (user.status, (), ())
    nobody = UserPresence(user_id="bob")
    assert not fold.fold(nobody, [Renew(user_id="bob", now=at(10))], RuleSettings()).status_changed
