"""What the bridge does while more waits than it can decide on, on a link that a test holds in its hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.bridge.batch import MAX_CHANGES
from mqtt_presence.bridge.committer import CHUNK
from mqtt_presence.bridge.config import Limits, Tuning
from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.bridge.part import Due
from mqtt_presence.bridge.recovery.forgotten_users import ClearTicket
from mqtt_presence.errors import StoreError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store, Transaction
from tests.support.checker import read
from tests.support.held_bridge import CONFIRM_MS, HeldBridge

MAX_BATCH = Tuning().max_batch
MAX_BACKLOG = Tuning().max_backlog


@pytest.fixture
def house(tmp_path: Path) -> Iterator[HeldBridge]:
    made = HeldBridge(f"sqlite:///{tmp_path / 'presence.db'}")
    yield made
    made.store.close()


@contextmanager
def no_database(_store: Store) -> Iterator[None]:
    raise StoreError("cannot use the database: it is away")
    yield


def logins(first: int, count: int) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"presence/user-{n}/client/login", {"connectionId": f"id-{n}"}) for n in range(first, first + count)
    ]


def test_no_more_is_read_than_there_is_room_for(house: HeldBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read brings thousands; while the database is away none is asked for, rather than a negative number."""
    monkeypatch.setattr(Store, "transaction", no_database)
    house.step(house.messages(*logins(0, 5_000)))
    house.step()
    assert house.link.asked_for == [MAX_BATCH, 0]
    monkeypatch.undo()


def test_who_has_answered_is_not_taken_for_silent_while_the_answers_wait(house: HeldBridge) -> None:
    """B3 counts until the bridge has caught up: what it has not read or decided on may be an answer."""
    house.connect()
    announcing = {"connectionId": "c1", "announce": True}
    house.step(house.messages(("presence/alice/phone/login", announcing)), seconds=3)
    house.announce()
    for _ in range(4):  # as much comes each time as can come at once
        house.step(house.messages(*logins(0, MAX_BATCH)), seconds=CONFIRM_MS / 1000)
        house.check()
    assert _reasons(house) == {"c1": None}
    while house.parts.intake.pending:
        house.step()
    house.step(house.messages(("presence/alice/phone/activity", {"connectionId": "c1"})))
    house.step(seconds=CONFIRM_MS / 1000)
    house.check()
    for _ in range(2 * MAX_BATCH // CHUNK):  # a page of users in each step
        house.step()
    assert _reasons(house) == {"c1": None}
    with house.store.transaction() as tx:
        assert tx.read_value("announced_at") is None


def test_batch_has_many_heartbeats_but_fewer_messages_that_say_more(house: HeldBridge) -> None:
    """Heartbeats are committed by the thousand; what must be published is not kept waiting for as many."""
    said = logins(0, 4)
    beats = [(topic.replace("login", "activity"), payload) for topic, payload in said]
    house.step(house.messages(*said))
    house.step(house.messages(*beats * (MAX_BATCH // 4)))
    assert len(house.link.acknowledged) == 4 + MAX_BATCH
    house.step(house.messages(*beats, *logins(0, MAX_CHANGES), *beats, *logins(9, 1), *beats))
    assert len(house.link.acknowledged) == 4 + MAX_BATCH + 4 + MAX_CHANGES + 4
    house.step()
    assert len(house.link.acknowledged) == 4 + MAX_BATCH + 4 + MAX_CHANGES + 4 + 1 + 4


def test_who_has_answered_is_not_taken_for_silent_while_more_bytes_come_than_are_read(
    house: HeldBridge,
) -> None:
    """Few messages that are large: they are not all there is."""
    house.connect()
    announcing = {"connectionId": "c1", "announce": True}
    house.step(house.messages(("presence/alice/phone/login", announcing)), seconds=3)
    house.step(seconds=1)
    house.announce()
    for n in range(3):
        few = house.messages(*logins(n, 1))
        few.cut_short = True
        house.bridge.request(Due.CHECK)
        house.step(few, seconds=CONFIRM_MS / 1000)
    assert _reasons(house) == {"c1": None}


def test_what_is_refused_waits_for_its_acknowledgement_without_its_bytes(
    house: HeldBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands may wait while the database is away; and what needs no acknowledgement does not wait at all."""

    @contextmanager
    def away(_store: Store) -> Iterator[None]:
        raise StoreError("cannot use the database: it is away")
        yield

    topic = "presence/alice/phone/activity"
    arrivals = house.messages(("presence/alice/phone/login", {"connectionId": "c1"}))
    arrivals.messages += [
        Incoming(topic, b"", 1, False, False, 7, 1, oversize=100_000),
        Incoming(topic, b"x" * 60_000, 1, False, False, 8, 1),
        Incoming("presence/" + "x" * 60_000, b"", 1, False, False, 9, 1),
        Incoming(topic, b"x" * 60_000, 0, False, False, 0, 1),
    ]
    monkeypatch.setattr(Store, "transaction", away)
    house.step(arrivals)
    assert house.bridge.counters.refused == {"too_large": 3, "bad_topic": 1}
    waiting = [entry.message for entry in house.parts.intake.pending]
    assert [message.mid for message in waiting] == [1, 7, 8, 9]
    assert [len(message.topic) + len(message.payload) for message in waiting[1:]] == [0, 0, 0]
    monkeypatch.undo()
    house.clock.now_s = 200.0
    house.step()
    assert house.link.acknowledged == [1, 7, 8, 9]
    assert _reasons(house) == {"c1": None}


def test_who_does_not_answer_ends_once_the_bridge_has_caught_up(house: HeldBridge) -> None:
    """And nobody has to be quiet for that."""
    house.connect()
    house.step(
        house.messages(("presence/alice/phone/login", {"connectionId": "c1", "announce": True})), seconds=3
    )
    house.step(seconds=1)
    house.announce()
    for n in range(4):
        house.step(house.messages(*logins(n, 1)), seconds=CONFIRM_MS / 1000)
        house.check()
    assert _reasons(house) == {"c1": "unconfirmed"}


def test_nobody_is_silent_right_after_a_reconnect(house: HeldBridge) -> None:
    """What they have answered waits with the broker, which has only begun to send it."""
    house.connect()
    house.step(
        house.messages(("presence/alice/phone/login", {"connectionId": "c1", "announce": True})), seconds=3
    )
    house.step(seconds=1)
    house.announce()
    house.step(Arrivals(connected=True, session_present=True), seconds=CONFIRM_MS / 1000 + 10)
    house.check()
    assert _reasons(house) == {"c1": None}


def test_what_needs_no_acknowledgement_does_not_pile_up_while_the_broker_takes_nothing(
    house: HeldBridge,
) -> None:
    """No window bounds QoS 0: beyond what may wait it is refused, and counted; what is acknowledged waits."""
    house.link.backlog = MAX_BACKLOG + 1
    beat = Incoming("presence/alice/phone/activity", b"", 0, False, False, 0, 1)
    time_asked = Incoming("presence/alice/phone/time", b"", 0, False, False, 0, 1)
    for _ in range(10):
        house.step(Arrivals([*[beat] * 900, *[time_asked] * 100]))
    house.step(house.messages(*logins(0, 50)))
    assert house.link.asked_for == [MAX_BATCH] * 11, "acknowledgements come among them"
    # The last thousand before it is full was taken whole, and the answers to the time wait for nothing.
    assert len(house.parts.intake.pending) == 4_000 + 50
    assert house.bridge.counters.refused == {"overloaded": 10_000 - 4_000 - 400}

    house.link.backlog = 0
    for _ in range(6):
        house.step()
    house.step(Arrivals([beat]))
    assert not house.parts.intake.pending, "and it goes on"
    assert house.bridge.counters.refused["overloaded"] == 5_600
    assert len(house.link.acknowledged) == 50


def test_new_message_under_an_old_packet_id_is_not_taken_for_the_old_one(
    house: HeldBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker gives out the lowest free id: a second nameless login has that of the first, and breaks off uncommitted."""
    login, will = "presence/alice/phone/login", "presence/alice/phone/will"

    def comes(topic: str, mid: int, *, dup: bool = False) -> Arrivals:
        return Arrivals(messages=[Incoming(topic, b"", 1, False, dup, mid, 1)])

    house.connect()
    house.step(comes(login, 1))
    house.step(comes(will, 2))
    assert list(_reasons(house).values()) == ["lost"]
    house.link.backlog = MAX_BACKLOG + 1  # the bridge commits nothing now
    house.step(comes(login, 1))
    house.link.backlog = 0
    house.connect()
    house.step(comes(login, 1, dup=True))
    assert sorted(_reasons(house).values(), key=str) == [None, "lost"]
    house.step(comes(login, 1, dup=True))
    assert len(_reasons(house)) == 2, "and this one is the same again"


def test_who_is_forgotten_twice_is_cleared_twice(house: HeldBridge) -> None:
    """Back in between: the first empty status has another one behind it, so its acknowledgement buries nobody."""
    house.connect()
    for _ in range(2):
        house.step(house.messages(said("login")))
        with house.store.transaction() as tx:
            tx.forget(UserId("alice"))
        house.check()
        house.link.taken, acknowledged = [], [t for t in house.link.taken if isinstance(t, ClearTicket)]
        house.check()
    assert len(acknowledged) == 1
    first = ClearTicket(UserId("alice"), acknowledged[0].number - 1)

    house.link.taken = [first]
    house.check()
    with house.store.transaction() as tx:
        assert tx.uncleared() == ["alice"]
    house.link.taken = acknowledged
    house.check()
    with house.store.transaction() as tx:
        assert tx.uncleared() == []
    empty = [message for message in house.link.published if message == "status/alice"]
    assert len(empty) == 4, "two that she is here, two that she never was"


def test_acknowledged_empty_status_counts_for_nothing_once_the_user_is_back(house: HeldBridge) -> None:
    """It may be noted only after she was forgotten again."""
    house.connect()
    house.step(house.messages(said("login")))
    with house.store.transaction() as tx:
        tx.forget(UserId("alice"))
    house.check()
    house.step()  # the broker has it: to be noted by the next check
    house.step(house.messages(said("login")))
    with house.store.transaction() as tx:
        tx.forget(UserId("alice"))
    house.link.taken = []
    house.check()
    with house.store.transaction() as tx:
        assert tx.uncleared() == ["alice"]
    house.check()
    with house.store.transaction() as tx:
        assert tx.uncleared() == []


def test_who_is_forgotten_where_there_is_no_room_is_back_once_forgotten(house: HeldBridge) -> None:
    """Her own place is free when she is buried; that she goes on sending meanwhile, in vain, changes nothing."""
    house.start(limits=Limits(users=1))
    house.connect()
    house.step(house.messages(said("login")))
    with house.store.transaction() as tx:
        tx.forget(UserId("alice"))
    for _ in range(5):
        house.check()
        house.step(house.messages(said("activity")))
        house.step()
    with house.store.transaction() as tx:
        assert (tx.count_users(), tx.uncleared()) == (1, [])


# A clock that is set.


def announce(house: HeldBridge) -> None:
    """Have clients asked that all answer announcements: one of them and a bridge that has caught up."""
    house.connect()
    house.step(house.messages(said("login")), seconds=3)
    house.step(seconds=1)
    house.announce()


def said(verb: str, connection_id: str = "c1") -> tuple[str, dict[str, Any]]:
    return f"presence/alice/phone-{connection_id}/{verb}", {"connectionId": connection_id, "announce": True}


@pytest.mark.parametrize("hours", [1, 24 * 365])
def test_a_clock_that_is_set_forward_gives_nobody_less_time_to_answer(house: HeldBridge, hours: int) -> None:
    """B3 waits by a clock that nobody sets; who answers at the end of that time is here, who does not is gone."""
    announce(house)
    house.step(house.messages(said("login", "silent")))
    house.parts.announcements.request("a test")
    house.step(seconds=1)
    house.clock.set_by_ms = hours * 3_600_000
    house.check()
    house.step(seconds=CONFIRM_MS / 1000 - 1)
    house.check()
    assert _reasons(house) == {"c1": None, "silent": None}
    house.step(house.messages(said("login")))
    house.step(seconds=2)
    house.check()
    assert _reasons(house) == {"c1": None, "silent": "unconfirmed"}


@pytest.mark.parametrize("seconds", [0, 1, CONFIRM_MS // 1000 - 1])
def test_who_answers_after_the_clock_was_set_back_is_here(house: HeldBridge, seconds: int) -> None:
    """All are asked again, and have as long again; who has answered the first time only is silent now."""
    announce(house)
    house.step(house.messages(said("login", "silent")), seconds=seconds)
    house.clock.set_by_ms = -3_600_000
    house.step(house.messages(said("login"), said("activity", "silent")))
    for _ in range(3):
        house.step()
    assert house.link.published.count("bridge/announce") == 2
    house.step(house.messages(said("login")), seconds=CONFIRM_MS / 1000 - 1)
    house.check()
    assert _reasons(house) == {"c1": None, "silent": None}
    house.step(seconds=2)
    house.check()
    assert _reasons(house) == {"c1": None, "silent": "unconfirmed"}
    for seen in (r.last_seen for r in read(house.database)[0]):
        assert seen <= house.clock.now()


def test_nobody_is_asked_again_before_all_that_lay_ahead_is_cut(house: HeldBridge) -> None:
    """Of more users than one step takes: else who says nothing would look as if it had answered."""
    announcing = [(topic, fields | {"announce": True}) for topic, fields in logins(0, 450)]
    house.step(house.messages(*announcing))
    announce(house)
    house.clock.set_by_ms = -3_600_000
    for _ in range(6):
        house.step(seconds=0.01)
    assert house.link.published.count("bridge/announce") == 2
    house.step(seconds=CONFIRM_MS / 1000 + 1)
    for _ in range(4):
        house.check()
    assert {r.reason for r in read(house.database)[0]} == {"unconfirmed"}


def test_what_was_read_before_the_clock_was_set_back_does_not_lie_ahead(
    house: HeldBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits while the database is away is stamped by a clock that was ahead; its records are not."""
    monkeypatch.setattr(Store, "transaction", no_database)
    house.step(house.messages(*logins(0, 5), said("login"), said("activity")))
    house.clock.set_by_ms = -3_600_000
    house.step()
    monkeypatch.undo()
    for _ in range(3):
        house.step(seconds=6)
    records, _ = read(house.database)
    assert len(records) == 6
    for r in records:
        assert max(r.last_seen, r.login_time, r.opened_at, r.last_activity or 0) <= house.clock.now()


def timed(verb: str, number: int) -> tuple[str, dict[str, Any]]:
    return f"presence/alice/phone-{number}/{verb}", {"connectionId": str(number), "timeout": 60}


def have_five_come(house: HeldBridge) -> None:
    house.connect()
    house.step(house.messages(*(timed("login", n) for n in range(5))), seconds=3)
    house.step(seconds=5)


def assert_all_are_here(house: HeldBridge) -> None:
    for _ in range(8):
        house.step(seconds=1)
        house.check()
    assert _reasons(house) == dict.fromkeys("01234")


@pytest.mark.parametrize("page", [1, 2, 1_000])
def test_silence_does_not_count_what_the_clock_was_set_forward_by(
    house: HeldBridge, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """B2: who was heard ten seconds before has fifty left, whatever the clock says; also if it is set twice."""
    house.start(tuning=Tuning(shifted_page=page))
    have_five_come(house)
    house.step(seconds=5)
    house.clock.set_by_ms += 3_600_000
    house.check()
    house.clock.set_by_ms += 1_800_000
    house.step(house.messages(timed("activity", 4)), seconds=1)
    for _ in range(16):
        house.step()
    assert set(_reasons(house).values()) == {None}
    for seen in (r.last_seen for r in read(house.database)[0]):
        assert house.clock.now() - 12_000 < seen <= house.clock.now()
    house.step(seconds=40)
    house.check()
    assert set(_reasons(house).values()) == {None}
    house.step(seconds=15)
    house.check()
    assert _reasons(house) == {**dict.fromkeys("0123", "timeout"), "4": None}
    house.step(seconds=10)
    house.check()
    assert set(_reasons(house).values()) == {"timeout"}


def test_many_steps_forward_are_moved_in_two_rounds(house: HeldBridge) -> None:
    """One under way and one after it: the work does not grow with the number of steps."""
    house.start(tuning=Tuning(shifted_page=2))
    have_five_come(house)
    before = [r.last_seen for r in read(house.database)[0]]
    house.clock.now_s += 500
    moves = house.parts.clock_steps
    moves.clock_stepped(1_000, house.clock.now())
    assert not moves.step(house.link)
    for _ in range(100):
        moves.clock_stepped(2_000, house.clock.now())
    pages = 2
    while not moves.step(house.link):
        pages += 1
    assert pages == 2 * 3
    assert [r.last_seen for r in read(house.database)[0]] == [seen + 201_000 for seen in before]


@pytest.mark.parametrize("page", [1, 2, 3])
def test_move_whose_commit_fails_is_done_again(
    house: HeldBridge, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Nothing of it is noted that is not in the database."""
    house.start(tuning=Tuning(shifted_page=page))
    have_five_come(house)
    transaction, commits = Store.transaction, count()

    @contextmanager
    def fails_sometimes(store: Store) -> Iterator[Transaction]:
        with transaction(store) as tx:
            yield tx
            if next(commits) % 2 == 0:
                raise StoreError("cannot use the database: it is full")

    monkeypatch.setattr(Store, "transaction", fails_sometimes)
    house.clock.set_by_ms += 3_600_000
    for _ in range(20):
        house.step(seconds=0.7)
    monkeypatch.setattr(Store, "transaction", transaction)
    assert_all_are_here(house)


def test_move_is_gone_on_with_by_the_next_bridge(house: HeldBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the first page are moved, the others not yet: nobody is looked at before they are."""
    house.start(tuning=Tuning(shifted_page=2))
    have_five_come(house)
    house.clock.set_by_ms += 3_600_000
    house.step()
    house.start()
    house.connect()
    assert_all_are_here(house)


def test_clock_that_is_set_back_a_little_takes_back_no_move(
    house: HeldBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is when time servers correct each other, while the database is away."""
    have_five_come(house)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "transaction", no_database)
        house.clock.set_by_ms += 3_600_000
        house.step(seconds=1)
        house.clock.set_by_ms -= 200
        house.step(seconds=1)
    assert_all_are_here(house)


def test_clock_that_is_set_forward_by_less_than_a_second_moves_nobody(house: HeldBridge) -> None:
    """It is not worth a write for everybody."""
    have_five_come(house)
    seen = {r.last_seen for r in read(house.database)[0]}
    for _ in range(5):
        house.clock.set_by_ms += 900
        house.step()
    assert {r.last_seen for r in read(house.database)[0]} == seen
    house.clock.set_by_ms += 1_100
    house.step()
    assert {r.last_seen for r in read(house.database)[0]} == {at + 1_100 for at in seen}


def test_clock_that_is_set_forward_just_before_clients_are_asked(
    house: HeldBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stamped by the new time is not taken for what has yet to be moved: who answers is here."""
    house.connect()
    house.step(house.messages(said("login"), said("login", "silent")), seconds=3)
    house.parts.announcements.request("a test")

    class SetsTheClock(list[Incoming]):
        """Sets the clock after the loop has looked at it, and before the announcement is sent."""

        def __iter__(self) -> Iterator[Incoming]:
            house.clock.set_by_ms += 3_600_000
            return super().__iter__()

    house.step(Arrivals(SetsTheClock()), seconds=1)
    house.step(house.messages(said("login")), seconds=2)
    house.step(seconds=CONFIRM_MS / 1000 + 1)
    house.check()
    assert _reasons(house) == {"c1": None, "silent": "unconfirmed"}


def test_nobody_is_asked_before_all_are_moved(house: HeldBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is moved twice, for a commit was in doubt, was seen just now: after a question it would look answered."""
    announce(house)
    house.step(house.messages(said("login", "silent")))
    house.step(seconds=CONFIRM_MS / 1000 + 1)
    house.check()
    transaction, moves = Store.transaction, 0

    @contextmanager
    def whose_answer_is_lost(store: Store) -> Iterator[Transaction]:
        nonlocal moves
        with transaction(store) as tx:
            move, before = tx.shift_last_seen, moves

            def counted(*args: Any) -> Any:
                nonlocal moves
                moves += 1
                return move(*args)

            monkeypatch.setattr(tx, "shift_last_seen", counted)
            yield tx
        if (before, moves) == (0, 1):
            raise StoreError("cannot use the database: the connection is lost")

    monkeypatch.setattr(Store, "transaction", whose_answer_is_lost)
    house.clock.set_by_ms += 3_600_000
    house.parts.announcements.request("a test")
    for _ in range(8):
        house.step(seconds=0.2)
    assert moves == 2
    assert house.link.published.count("bridge/announce") == 2
    house.step(house.messages(said("login")), seconds=1)
    house.step(seconds=CONFIRM_MS / 1000)
    house.check()
    assert _reasons(house) == {"c1": None, "silent": "unconfirmed"}


@pytest.mark.parametrize("set_by", [0, 2_000, 3_600_000])
def test_what_waits_while_the_clock_is_set_forward_is_as_new_as_it_was(
    house: HeldBridge, monkeypatch: pytest.MonkeyPatch, set_by: int
) -> None:
    """It was heard half an hour ago, by the new time as by the old."""
    house.connect()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "transaction", no_database)
        house.step(house.messages(timed("login", 1)), seconds=3)
        heard = house.clock.now()
        for _ in range(30):
            house.step(seconds=60)
        house.clock.set_by_ms += set_by
        house.step(seconds=1)
    house.step(seconds=6)
    (record,) = read(house.database)[0]
    assert record.login_time == heard + set_by


def test_what_waits_is_no_answer_to_a_later_question(house: HeldBridge) -> None:
    """Also if the clock is set forward before it is decided on."""
    house.connect()
    house.step(house.messages(said("login"), said("login", "silent")), seconds=3)
    house.link.backlog = 20_001
    house.step(house.messages(said("activity", "silent")), seconds=1)
    house.parts.announcements.request("a test")
    house.step(seconds=1)
    house.clock.set_by_ms += 3_600_000
    house.step(house.messages(said("login")), seconds=1)
    house.link.backlog = 0
    for _ in range(3):
        house.step(seconds=CONFIRM_MS / 1000)
        house.check()
    assert _reasons(house) == {"c1": None, "silent": "unconfirmed"}


def test_a_clock_that_is_set_back_a_little_at_a_time_asks_nobody_again(house: HeldBridge) -> None:
    """Less than a tenth of a second is as good as nothing."""
    announce(house)
    for _ in range(20):
        house.clock.set_by_ms -= 50
        house.step(seconds=0.01)
    for _ in range(3):
        house.step()
    assert house.link.published.count("bridge/announce") == 1


def _reasons(house: HeldBridge) -> dict[str, str | None]:
    records, _ = read(house.database)
    return {r.connection_id: r.reason for r in records if r.user_id == "alice"}
