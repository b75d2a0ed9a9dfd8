"""Comparing what is kept with what is retained, without either: the pure functions, and the looking over fakes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from mqtt_presence.protocol.outgoing import encode_status
from mqtt_presence.rules.model import Connection, LastLogin, State, Status, UserId, UserPresence
from mqtt_presence.tools.verify.comparison import (
    UNREADABLE,
    Difference,
    DifferenceKind,
    Shown,
    Verifier,
    corrected,
    expected,
    row_difference,
    shown,
    status_difference,
)

NOW = 1_800_000_000_000


def connection(number: int = 0, *, idle: bool | None = None) -> Connection:
    return Connection(
        "alice", f"client{number}", f"c{number}", NOW, login_time=NOW, login_order=NOW + number, idle=idle,
        last_activity=NOW if idle is not None else None,
    )  # fmt: skip


def user(*live: Connection, version: int = 7, name: str = "alice", **status: Any) -> UserPresence:
    """Make a user with a correct row, except for the given values of the status."""
    right = Status(
        state=State.ONLINE if live else State.OFFLINE, since=NOW, connections=len(live),
        last_login=LastLogin(order=NOW, date=NOW),
    )  # fmt: skip
    return UserPresence(
        user_id=UserId(name),
        status=replace(right, **status),
        version=version,
        connections={(c.client_id, c.connection_id): c for c in live},
    )


def retained(of: UserPresence) -> bytes:
    assert of.status is not None
    return encode_status(of.user_id, of.status, version=of.version, last_seen=NOW + 5, private=True)


def test_published_status_equals_the_expected_one() -> None:
    """A status encoded for the row compares equal, for any lastSeen and addresses."""
    for right in (user(), user(connection()), user(connection(), state=State.IDLE, last_activity=NOW)):
        assert shown(right.user_id, retained(right)) == expected(right)
        assert status_difference(right, shown(right.user_id, retained(right)), right.version) is None


@pytest.mark.parametrize("payload", [b"junk", b"{}", b'{"userId":"bob"}', b"[1]", b"x" * 9000])
def test_payload_without_a_status_is_unreadable(payload: bytes) -> None:
    """Junk on a user's topic is a kind of its own."""
    assert shown("alice", payload) is UNREADABLE
    found = status_difference(user(), shown("alice", payload), 7)
    assert found is not None
    assert found.kind is DifferenceKind.UNREADABLE


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        (user(connection(), connections=2), {"connections"}),
        (user(connection(), state=State.IDLE), {"state", "idle"}),
        (user(state=State.ONLINE, connections=1), {"state", "online", "idle", "connections"}),
        (user(connection(idle=True), state=State.IDLE, last_activity=NOW - 1), {"last_activity"}),
    ],
)
def test_row_that_differs_from_its_records_is_found(wrong: UserPresence, names: set[str]) -> None:
    """The row must follow from the live records; the difference has the names of the columns."""
    found = row_difference(wrong, odd=False)
    assert found is not None
    assert found.kind is DifferenceKind.ROW
    assert found.expected.keys() | found.found.keys() == names


def test_row_that_shows_a_later_activity_is_right() -> None:
    """While a user stays idle, the last activity does not fall back when a connection leaves."""
    assert (
        row_difference(user(connection(idle=True), state=State.IDLE, last_activity=NOW + 9), odd=False)
        is None
    )


def test_live_records_without_a_row_are_a_difference_and_get_one() -> None:
    """A connected user must have a row."""
    rowless = UserPresence(user_id=UserId("alice"), version=4, connections=user(connection()).connections)
    assert row_difference(rowless, odd=True) is not None
    made = corrected(rowless, None, NOW, odd=True)
    assert (made.version, made.status) == (
        5,
        Status(
            state=State.ONLINE, since=NOW, connections=1, last_login=LastLogin(order=NOW, date=NOW)
        ),
    )  # fmt: skip


def test_version_that_still_changes_is_no_difference() -> None:
    """A topic is stale only if it is behind an earlier version of the row."""
    right = user(connection(), version=9)
    behind = replace(expected(right), version=8)
    assert status_difference(right, behind, 8) is None
    for at_least, kind in ((9, DifferenceKind.STALE),):
        found = status_difference(right, behind, at_least)
        assert found is not None
        assert found.kind is kind


def test_each_kind_of_difference_is_found() -> None:
    """Missing, ahead of the row, of the same version with other values, of an unknown user."""
    right = user(connection())
    cases: list[tuple[UserPresence, Shown | None, DifferenceKind]] = [
        (right, None, DifferenceKind.MISSING),
        (right, replace(expected(right), version=8), DifferenceKind.AHEAD),
        (right, replace(expected(right), connections=3), DifferenceKind.WRONG),
        (UserPresence(user_id=UserId("alice")), expected(right), DifferenceKind.LEFT_OVER),
    ]
    for kept, seen, kind in cases:
        found = status_difference(kept, seen, 7)
        assert found is not None
        assert found.kind is kind
    assert status_difference(UserPresence(user_id=UserId("alice")), None, 0) is None


def test_unreadable_status_has_no_values() -> None:
    """Junk on the topic of an unknown user has no values, not even a version."""
    found = status_difference(UserPresence(user_id=UserId("alice")), shown("alice", b"junk"), 0)
    assert found == Difference(UserId("alice"), DifferenceKind.LEFT_OVER)


@pytest.mark.parametrize(
    ("seen_version", "version"), [(None, 7), (6, 7), (7, 8), (11, 12), (2**53 - 1, 7)], ids=str
)
def test_correction_has_a_version_that_subscribers_accept(seen_version: int | None, version: int) -> None:
    """The version exceeds that of a wrong status, unless that version is absurd."""
    kept = user(connection())
    seen = None if seen_version is None else replace(expected(kept), version=seen_version, connections=5)
    assert corrected(kept, seen, NOW, odd=False) == replace(kept, version=version)


def test_correction_of_an_unknown_user_keeps_the_version() -> None:
    """If the user of a leftover returns, versions continue to grow."""
    stranger = UserPresence(user_id=UserId("alice"), version=3)
    assert corrected(stranger, replace(expected(user()), version=40), NOW, odd=False).version == 40
    assert corrected(stranger, None, NOW, odd=False) == stranger
    # All newcomers begin there: with this one they would come to where JSON's numbers are not exact any more.
    assert corrected(stranger, replace(expected(user()), version=2**53 - 2), NOW, odd=False) == stranger


class FakeDatabase:
    """A database of users in a dict."""

    def __init__(self, *users: UserPresence) -> None:
        self.users = {u.user_id: u for u in users}

    def page(self, after: str) -> Sequence[UserPresence]:
        return sorted((u for u in self.users.values() if u.user_id > after), key=lambda u: u.user_id)[:2]

    def read(self, user_ids: Iterable[UserId]) -> dict[UserId, UserPresence]:
        return {u: self.users.get(u, UserPresence(user_id=u)) for u in user_ids}

    def odd(self, among: Sequence[UserId] | None = None) -> set[UserId]:
        del among
        return set()

    def correct(
        self, user_ids: Sequence[UserId], correct: Callable[[UserPresence], UserPresence]
    ) -> dict[UserId, UserPresence]:
        made = {u: correct(kept) for u, kept in self.read(user_ids).items()}
        self.users |= {u: right for u, right in made.items() if right.status is not None}
        return made


class FakeBroker:
    """A broker of retained statuses in a dict; the first read of all users misses some."""

    def __init__(self, *users: UserPresence) -> None:
        self.seen = {u.user_id: expected(u) for u in users}
        self.misses: set[str] = set()
        self.published: list[tuple[str, int | None]] = []
        self.then: list[Callable[[], None]] = []

    def look_all(self) -> dict[UserId, Shown]:
        return {u: s for u, s in self.seen.items() if u not in self.misses}

    def look(self, user_ids: Sequence[UserId]) -> dict[UserId, Shown]:
        return {u: self.seen[u] for u in user_ids if u in self.seen}

    def publish(self, users: Sequence[UserPresence]) -> None:
        for u in users:
            self.published.append((u.user_id, None if u.status is None else u.version))
            if u.status is None:
                self.seen.pop(u.user_id, None)
            else:
                self.seen[u.user_id] = expected(u)
        if self.then:
            self.then.pop(0)()


def verifier(
    database: FakeDatabase, broker: FakeBroker, on_pause: Callable[[], None] = lambda: None
) -> Verifier:
    clock = [0.0]

    def pause(duration_s: float) -> None:
        clock[0] += duration_s
        on_pause()

    return Verifier(database, broker, settle_s=1.0, monotonic=lambda: clock[0], pause=pause, now=lambda: NOW)


def people() -> list[UserPresence]:
    return [user(connection(), name=f"u{n}") for n in range(5)]


def test_correct_users_are_read_once() -> None:
    """Five users in three pages have no differences."""
    looking = verifier(FakeDatabase(*people()), FakeBroker(*people()))
    assert looking.differences() == []
    assert looking.users == 5


def test_missing_status_is_read_again() -> None:
    """A status that the broker drops from the long list is not missing."""
    broker = FakeBroker(*people())
    broker.misses = {"u1", "u4"}
    assert verifier(FakeDatabase(*people()), broker).differences() == []


def test_user_that_changes_constantly_is_no_difference() -> None:
    """The topic is always one version behind, but changes too."""
    database, broker = FakeDatabase(*people()), FakeBroker(*people())

    def change() -> None:
        kept = database.users[UserId("u2")]
        broker.seen[kept.user_id] = expected(kept)
        database.users[kept.user_id] = replace(kept, version=kept.version + 1)

    change()
    assert verifier(database, broker, change).differences() == []


def test_lasting_differences_are_reported_and_repaired() -> None:
    """One difference of each kind, then none after the repair."""
    database, broker = FakeDatabase(*people()), FakeBroker(*people())
    del broker.seen[UserId("u0")]
    broker.seen[UserId("u1")] = replace(broker.seen[UserId("u1")], version=3)
    broker.seen[UserId("u2")] = replace(broker.seen[UserId("u2")], version=30)
    broker.seen[UserId("ghost")] = Shown(5, State.ONLINE, online=True, idle=False, connections=1)
    looking = verifier(database, broker)
    found = looking.differences()
    assert {d.user_id: d.kind for d in found} == {
        "u0": DifferenceKind.MISSING,
        "u1": DifferenceKind.STALE,
        "u2": DifferenceKind.AHEAD,
        "ghost": DifferenceKind.LEFT_OVER,
    }
    assert looking.repair(found) == []
    assert sorted(broker.published) == [("ghost", None), ("u0", 7), ("u1", 7), ("u2", 31)]


def test_repair_publishes_a_newer_version_from_the_bridge() -> None:
    """The bridge published a newer status just before the repair: the older one must not stay."""
    database, broker = FakeDatabase(*people()), FakeBroker(*people())
    del broker.seen[UserId("u0")]
    newer = replace(database.users[UserId("u0")], version=8)
    broker.then = [lambda: database.users.update({UserId("u0"): newer})]
    looking = verifier(database, broker)
    assert looking.repair(looking.differences()) == []
    assert broker.published == [("u0", 7), ("u0", 8)]


def test_difference_remains_if_the_broker_loses_the_repair() -> None:
    """A broker that acknowledges without storing is noticed."""
    database, broker = FakeDatabase(*people()), FakeBroker(*people())
    del broker.seen[UserId("u0")]
    broker.then = [lambda: broker.seen.pop(UserId("u0")) and None]
    looking = verifier(database, broker)
    assert [d.kind for d in looking.repair(looking.differences())] == [DifferenceKind.MISSING]
