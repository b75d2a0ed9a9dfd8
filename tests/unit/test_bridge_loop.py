"""The bridge's loop under load, forgotten users and clock steps, on a link and clocks that the test controls."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mqtt_presence.bridge.batch import MAX_CHANGES
from mqtt_presence.bridge.committer import CHUNK
from mqtt_presence.bridge.config import Limits, Tuning
from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.bridge.part import Due
from mqtt_presence.bridge.recovery.announcements import answers_within_s
from mqtt_presence.bridge.recovery.forgotten_users import ClearTicket
from mqtt_presence.errors import StoreError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store, Transaction
from tests.support.checker import read
from tests.support.held_bridge import CONFIRM_MS, INPUTS, HeldBridge

MAX_BATCH = Tuning().max_batch
MAX_BACKLOG = Tuning().max_backlog


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[HeldBridge]:
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


def test_loop_reads_no_more_than_it_has_room_for(bridge: HeldBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read brings thousands of messages; while the database is away, none is requested."""
    monkeypatch.setattr(Store, "transaction", no_database)
    bridge.step(bridge.messages(*logins(0, 5_000)))
    bridge.step()
    assert bridge.link.asked_for == [MAX_BATCH, 0]
    monkeypatch.undo()


def test_bridge_is_online_only_after_its_subscription(
    bridge: HeldBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that sees it online logs in at once; a new session has no earlier subscription."""
    requests = bridge.link.published
    monkeypatch.setattr(
        bridge.link, "subscribe", lambda topic_filter, *_, **__: requests.append(topic_filter)
    )
    bridge.step(Arrivals(connected=True))
    assert requests.index(INPUTS) < requests.index("bridge/state")


def test_redelivered_logout_of_no_connection_does_not_end_a_later_login(bridge: HeldBridge) -> None:
    """A message that left no record is recognised too: the journal has it (docs/design.md, Recovery)."""
    bridge.connect()
    both = bridge.messages(("presence/alice/phone/logout", {}), ("presence/alice/phone/login", {}))
    bridge.step(both)
    bridge.start()  # killed before the broker had the acknowledgements
    bridge.connect()
    bridge.step(Arrivals(messages=[replace(message, dup=True) for message in both.messages]))
    ((_, reason),) = _reasons(bridge).items()
    assert reason is None


def test_answers_that_wait_in_the_bridge_are_no_silence(bridge: HeldBridge) -> None:
    """B3 counts until the bridge has caught up: an unprocessed message may be an answer."""
    bridge.connect()
    announcing = {"connectionId": "c1", "announce": True}
    bridge.step(bridge.messages(("presence/alice/phone/login", announcing)), seconds=3)
    bridge.announce()
    for _ in range(4):  # as much comes each time as can come at once
        bridge.step(bridge.messages(*logins(0, MAX_BATCH)), seconds=CONFIRM_MS / 1000)
        bridge.check()
    assert _reasons(bridge) == {"c1": None}
    while bridge.parts.pending:
        bridge.step()
    bridge.step(bridge.messages(("presence/alice/phone/activity", {"connectionId": "c1"})))
    bridge.step(seconds=CONFIRM_MS / 1000)
    bridge.check()
    for _ in range(2 * MAX_BATCH // CHUNK):  # a page of users in each step
        bridge.step()
    assert _reasons(bridge) == {"c1": None}
    with bridge.store.transaction() as tx:
        assert tx.read_value("announced_at") is None


@pytest.mark.parametrize(("wrong_by_ms", "reason"), [(20, None), (0, "unconfirmed")])
def test_an_answer_by_another_clock_is_an_answer(
    bridge: HeldBridge, wrong_by_ms: int, reason: str | None
) -> None:
    """Each bridge of a database has a clock of its own, which may be behind that of the one that announces."""
    bridge.connect()
    bridge.step(bridge.messages(("presence/alice/phone/login", {"connectionId": "c1", "announce": True})))
    bridge.step(seconds=3)
    bridge.clock.wrong_by_ms = wrong_by_ms
    bridge.announce()
    bridge.clock.set_by_ms = -40
    bridge.step(bridge.messages(("presence/alice/phone/activity", {"connectionId": "c1"})))
    bridge.clock.set_by_ms = 0
    for _ in range(2):
        bridge.step(seconds=CONFIRM_MS / 1000)
        bridge.check()
    assert _reasons(bridge) == {"c1": reason}


@pytest.mark.parametrize(
    ("connections", "seats", "within_s"),
    [
        (0, 1, 0),
        (1_999, 1, 0),
        (2_000, 1, 1),
        (10_000, 1, 5),
        (10_000, 2, 2.5),
        (10_000, 0, 5),
        (1_000_000, 4, CONFIRM_MS / 2000),
    ],
)
def test_answers_are_spread_by_the_number_of_connections(
    connections: int, seats: int, within_s: float
) -> None:
    """2,000 answers a second for each seat, and never more than half of the time that B3 gives."""
    assert answers_within_s(connections, seats, CONFIRM_MS) == within_s
    assert answers_within_s(connections, seats, 1_000) == 0, "half a second is not worth a field"


def test_clients_that_wait_with_their_answers_do_not_end(bridge: HeldBridge) -> None:
    """B3 spares those that answer in the last moment of `within`, and ends those that never answer."""
    count = 2_500
    payloads = [(topic, fields | {"announce": True}) for topic, fields in logins(0, count)]
    bridge.connect()
    bridge.step(bridge.messages(*payloads), seconds=3)
    while bridge.parts.pending:
        bridge.step()
    bridge.step(seconds=1)
    bridge.announce()
    sent = bridge.link.payloads[bridge.link.published.index("bridge/announce")]
    assert sent == b'{"within":1.2}'
    bridge.step(seconds=1.2)
    bridge.check()
    assert [record.reason for record in read(bridge.database)[0]] == [None] * count
    bridge.step(bridge.messages(*payloads[1:]))
    while bridge.parts.pending:
        bridge.step()
    bridge.step(seconds=CONFIRM_MS / 1000)
    bridge.check()
    for _ in range(2 * count // CHUNK):
        bridge.step()
    assert {record.connection_id for record in read(bridge.database)[0] if record.reason} == {"id-0"}


def test_batch_has_many_heartbeats_but_fewer_other_messages(bridge: HeldBridge) -> None:
    """Heartbeats are committed by the thousand; messages that lead to publications wait for fewer."""
    said = logins(0, 4)
    beats = [(topic.replace("login", "activity"), payload) for topic, payload in said]
    bridge.step(bridge.messages(*said))
    bridge.step(bridge.messages(*beats * (MAX_BATCH // 4)))
    assert len(bridge.link.acknowledged) == 4 + MAX_BATCH
    bridge.step(bridge.messages(*beats, *logins(0, MAX_CHANGES), *beats, *logins(9, 1), *beats))
    assert len(bridge.link.acknowledged) == 4 + MAX_BATCH + 4 + MAX_CHANGES + 4
    bridge.step()
    assert len(bridge.link.acknowledged) == 4 + MAX_BATCH + 4 + MAX_CHANGES + 4 + 1 + 4


def test_answers_that_wait_behind_large_messages_are_no_silence(
    bridge: HeldBridge,
) -> None:
    """A few large messages end a read, and more may wait."""
    bridge.connect()
    announcing = {"connectionId": "c1", "announce": True}
    bridge.step(bridge.messages(("presence/alice/phone/login", announcing)), seconds=3)
    bridge.step(seconds=1)
    bridge.announce()
    for n in range(3):
        few = bridge.messages(*logins(n, 1))
        few.cut_short = True
        bridge.loop.request(Due.CHECK)
        bridge.step(few, seconds=CONFIRM_MS / 1000)
    assert _reasons(bridge) == {"c1": None}


def test_refused_message_waits_for_its_acknowledgement_without_its_bytes(
    bridge: HeldBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands may wait while the database is away; a QoS 0 message does not wait at all."""

    @contextmanager
    def away(_store: Store) -> Iterator[None]:
        raise StoreError("cannot use the database: it is away")
        yield

    topic = "presence/alice/phone/activity"
    arrivals = bridge.messages(("presence/alice/phone/login", {"connectionId": "c1"}))
    arrivals.messages += [
        Incoming(topic, b"", 1, False, False, 7, 1, oversize=100_000),
        Incoming(topic, b"x" * 60_000, 1, False, False, 8, 1),
        Incoming("presence/" + "x" * 60_000, b"", 1, False, False, 9, 1),
        Incoming(topic, b"x" * 60_000, 0, False, False, 0, 1),
    ]
    monkeypatch.setattr(Store, "transaction", away)
    bridge.step(arrivals)
    assert bridge.loop.counters.refused == {"too_large": 3, "bad_topic": 1}
    waiting = [entry.message for entry in bridge.parts.pending.messages]
    assert [message.mid for message in waiting] == [1, 7, 8, 9]
    assert [len(message.topic) + len(message.payload) for message in waiting[1:]] == [0, 0, 0]
    monkeypatch.undo()
    bridge.clock.now_s = 200.0
    bridge.step()
    assert bridge.link.acknowledged == [1, 7, 8, 9]
    assert _reasons(bridge) == {"c1": None}


def test_silent_client_ends_once_the_bridge_has_caught_up(bridge: HeldBridge) -> None:
    """Other clients may go on sending meanwhile."""
    bridge.connect()
    bridge.step(
        bridge.messages(("presence/alice/phone/login", {"connectionId": "c1", "announce": True})), seconds=3
    )
    bridge.step(seconds=1)
    bridge.announce()
    for n in range(4):
        bridge.step(bridge.messages(*logins(n, 1)), seconds=CONFIRM_MS / 1000)
        bridge.check()
    assert _reasons(bridge) == {"c1": "unconfirmed"}


def test_no_client_is_silent_right_after_a_reconnect(bridge: HeldBridge) -> None:
    """The answers wait at the broker, which has only begun to send them."""
    bridge.connect()
    bridge.step(
        bridge.messages(("presence/alice/phone/login", {"connectionId": "c1", "announce": True})), seconds=3
    )
    bridge.step(seconds=1)
    bridge.announce()
    bridge.step(Arrivals(connected=True, session_present=True), seconds=CONFIRM_MS / 1000 + 10)
    bridge.check()
    assert _reasons(bridge) == {"c1": None}


def test_qos_0_messages_do_not_pile_up_while_the_broker_accepts_no_publication(
    bridge: HeldBridge,
) -> None:
    """No window bounds QoS 0: messages beyond the limit are refused and counted; QoS 1 messages wait."""
    bridge.link.backlog = MAX_BACKLOG + 1
    beat = Incoming("presence/alice/phone/activity", b"", 0, False, False, 0, 1)
    time_asked = Incoming("presence/alice/phone/time", b"", 0, False, False, 0, 1)
    for _ in range(10):
        bridge.step(Arrivals([*[beat] * 900, *[time_asked] * 100]))
    bridge.step(bridge.messages(*logins(0, 50)))
    assert bridge.link.asked_for == [MAX_BATCH] * 11, "acknowledgements come among them"
    # The last thousand before it is full was taken whole, and the answers to the time wait for nothing.
    assert len(bridge.parts.pending) == 4_000 + 50
    assert bridge.loop.counters.refused == {"overloaded": 10_000 - 4_000 - 400}

    bridge.link.backlog = 0
    for _ in range(6):
        bridge.step()
    bridge.step(Arrivals([beat]))
    assert not bridge.parts.pending, "and it goes on"
    assert bridge.loop.counters.refused["overloaded"] == 5_600
    assert len(bridge.link.acknowledged) == 50


def test_new_message_under_a_reused_packet_id_counts(
    bridge: HeldBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker reuses the lowest free id: a second nameless login has that of the first, and is interrupted uncommitted."""
    login, will = "presence/alice/phone/login", "presence/alice/phone/will"

    def comes(topic: str, mid: int, *, dup: bool = False) -> Arrivals:
        return Arrivals(messages=[Incoming(topic, b"", 1, False, dup, mid, 1)])

    bridge.connect()
    bridge.step(comes(login, 1))
    bridge.step(comes(will, 2))
    assert list(_reasons(bridge).values()) == ["lost"]
    bridge.link.backlog = MAX_BACKLOG + 1  # the bridge commits nothing now
    bridge.step(comes(login, 1))
    bridge.link.backlog = 0
    bridge.connect()
    bridge.step(comes(login, 1, dup=True))
    assert sorted(_reasons(bridge).values(), key=str) == [None, "lost"]
    bridge.step(comes(login, 1, dup=True))
    assert len(_reasons(bridge)) == 2, "and this one is the same again"


def test_user_forgotten_twice_is_cleared_twice(bridge: HeldBridge) -> None:
    """The user returned in between, so the acknowledgement of the first empty status does not mark the second."""
    bridge.connect()
    for _ in range(2):
        bridge.step(bridge.messages(said("login")))
        with bridge.store.transaction() as tx:
            tx.forget(UserId("alice"))
        bridge.check()
        bridge.link.taken, acknowledged = [], [t for t in bridge.link.taken if isinstance(t, ClearTicket)]
        bridge.check()
    assert len(acknowledged) == 1
    first = ClearTicket(UserId("alice"), acknowledged[0].number - 1)

    bridge.link.taken = [first]
    bridge.check()
    with bridge.store.transaction() as tx:
        assert tx.uncleared() == ["alice"]
    bridge.link.taken = acknowledged
    bridge.check()
    with bridge.store.transaction() as tx:
        assert tx.uncleared() == []
    empty = [message for message in bridge.link.published if message == "status/alice"]
    assert len(empty) == 4, "two that she is here, two that she never was"


def test_acknowledged_empty_status_is_ignored_once_the_user_is_back(bridge: HeldBridge) -> None:
    """The acknowledgement may be processed only after the user was forgotten again."""
    bridge.connect()
    bridge.step(bridge.messages(said("login")))
    with bridge.store.transaction() as tx:
        tx.forget(UserId("alice"))
    bridge.check()
    bridge.step()  # the broker has it: to be noted by the next check
    bridge.step(bridge.messages(said("login")))
    with bridge.store.transaction() as tx:
        tx.forget(UserId("alice"))
    bridge.link.taken = []
    bridge.check()
    with bridge.store.transaction() as tx:
        assert tx.uncleared() == ["alice"]
    bridge.check()
    with bridge.store.transaction() as tx:
        assert tx.uncleared() == []


def test_user_forgotten_at_the_limit_of_users_can_return(bridge: HeldBridge) -> None:
    """The place of the user is free once the status is cleared; messages refused meanwhile change nothing."""
    bridge.start(limits=Limits(users=1))
    bridge.connect()
    bridge.step(bridge.messages(said("login")))
    with bridge.store.transaction() as tx:
        tx.forget(UserId("alice"))
    for _ in range(5):
        bridge.check()
        bridge.step(bridge.messages(said("activity")))
        bridge.step()
    with bridge.store.transaction() as tx:
        assert (tx.count_users(), tx.uncleared()) == (1, [])


# A clock that is set.


def announce(bridge: HeldBridge) -> None:
    """Send an announcement to clients that answer, with a bridge that has caught up."""
    bridge.connect()
    bridge.step(bridge.messages(said("login")), seconds=3)
    bridge.step(seconds=1)
    bridge.announce()


def said(verb: str, connection_id: str = "c1") -> tuple[str, dict[str, Any]]:
    return f"presence/alice/phone-{connection_id}/{verb}", {"connectionId": connection_id, "announce": True}


@pytest.mark.parametrize("hours", [1, 24 * 365])
def test_step_forward_does_not_shorten_the_time_to_answer(bridge: HeldBridge, hours: int) -> None:
    """B3 waits by the monotonic clock: a client that answers at the last moment stays, a silent one ends."""
    announce(bridge)
    bridge.step(bridge.messages(said("login", "silent")))
    bridge.parts.announcements.request("a test")
    bridge.step(seconds=1)
    bridge.clock.set_by_ms = hours * 3_600_000
    bridge.check()
    bridge.step(seconds=CONFIRM_MS / 1000 - 1)
    bridge.check()
    assert _reasons(bridge) == {"c1": None, "silent": None}
    bridge.step(bridge.messages(said("login")))
    bridge.step(seconds=2)
    bridge.check()
    assert _reasons(bridge) == {"c1": None, "silent": "unconfirmed"}


@pytest.mark.parametrize("wrong_by_ms", [0, 1, 50])
@pytest.mark.parametrize("seconds", [0, 1, CONFIRM_MS // 1000 - 1])
def test_client_that_answers_after_a_step_back_stays(
    bridge: HeldBridge, seconds: int, wrong_by_ms: int
) -> None:
    """All clients are asked again, with the same time; a client that has answered only the first time ends."""
    bridge.clock.wrong_by_ms = wrong_by_ms
    announce(bridge)
    bridge.step(bridge.messages(said("login", "silent")), seconds=seconds)
    bridge.clock.set_by_ms = -3_600_000
    bridge.step(bridge.messages(said("login"), said("activity", "silent")))
    for _ in range(3):
        bridge.step()
    assert bridge.link.published.count("bridge/announce") == 2
    bridge.step(bridge.messages(said("login")), seconds=CONFIRM_MS / 1000 - 1)
    bridge.check()
    assert _reasons(bridge) == {"c1": None, "silent": None}
    bridge.step(seconds=2)
    bridge.check()
    assert _reasons(bridge) == {"c1": None, "silent": "unconfirmed"}
    for seen in (r.last_seen for r in read(bridge.database)[0]):
        assert seen <= bridge.clock.now()


def test_no_announcement_before_all_future_times_are_cut(bridge: HeldBridge) -> None:
    """There are more users than one step cuts: a silent client would seem to have answered."""
    announcing = [(topic, fields | {"announce": True}) for topic, fields in logins(0, 450)]
    bridge.step(bridge.messages(*announcing))
    announce(bridge)
    bridge.clock.set_by_ms = -3_600_000
    for _ in range(6):
        bridge.step(seconds=0.01)
    assert bridge.link.published.count("bridge/announce") == 2
    bridge.step(seconds=CONFIRM_MS / 1000 + 1)
    for _ in range(4):
        bridge.check()
    assert {r.reason for r in read(bridge.database)[0]} == {"unconfirmed"}


def test_messages_read_before_a_step_back_get_no_future_times(
    bridge: HeldBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that wait for the database have stamps of a clock that was ahead; their records must not."""
    monkeypatch.setattr(Store, "transaction", no_database)
    bridge.step(bridge.messages(*logins(0, 5), said("login"), said("activity")))
    bridge.clock.set_by_ms = -3_600_000
    bridge.step()
    monkeypatch.undo()
    for _ in range(3):
        bridge.step(seconds=6)
    records, _ = read(bridge.database)
    assert len(records) == 6
    for r in records:
        assert max(r.last_seen, r.login_time, r.opened_at, r.last_activity or 0) <= bridge.clock.now()


def timed(verb: str, number: int) -> tuple[str, dict[str, Any]]:
    return f"presence/alice/phone-{number}/{verb}", {"connectionId": str(number), "timeout": 60}


def have_five_come(bridge: HeldBridge) -> None:
    bridge.connect()
    bridge.step(bridge.messages(*(timed("login", n) for n in range(5))), seconds=3)
    bridge.step(seconds=5)


def assert_all_are_here(bridge: HeldBridge) -> None:
    for _ in range(8):
        bridge.step(seconds=1)
        bridge.check()
    assert _reasons(bridge) == dict.fromkeys("01234")


@pytest.mark.parametrize("page", [1, 2, 1_000])
def test_step_forward_is_not_silence(bridge: HeldBridge, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """B2: a client heard ten seconds ago has fifty left, also after two steps."""
    bridge.start(tuning=Tuning(shifted_page=page))
    have_five_come(bridge)
    bridge.step(seconds=5)
    bridge.clock.set_by_ms += 3_600_000
    bridge.check()
    bridge.clock.set_by_ms += 1_800_000
    bridge.step(bridge.messages(timed("activity", 4)), seconds=1)
    for _ in range(16):
        bridge.step()
    assert set(_reasons(bridge).values()) == {None}
    for seen in (r.last_seen for r in read(bridge.database)[0]):
        assert bridge.clock.now() - 12_000 < seen <= bridge.clock.now()
    bridge.step(seconds=40)
    bridge.check()
    assert set(_reasons(bridge).values()) == {None}
    bridge.step(seconds=15)
    bridge.check()
    assert _reasons(bridge) == {**dict.fromkeys("0123", "timeout"), "4": None}
    bridge.step(seconds=10)
    bridge.check()
    assert set(_reasons(bridge).values()) == {"timeout"}


def test_many_steps_forward_are_shifted_in_two_rounds(bridge: HeldBridge) -> None:
    """One round is under way and one follows: the work does not grow with the number of steps."""
    bridge.start(tuning=Tuning(shifted_page=2))
    have_five_come(bridge)
    before = [r.last_seen for r in read(bridge.database)[0]]
    bridge.clock.now_s += 500
    moves = bridge.parts.clock_steps
    moves.clock_stepped(1_000, bridge.clock.now())
    assert not moves.step(bridge.link)
    for _ in range(100):
        moves.clock_stepped(2_000, bridge.clock.now())
    pages = 2
    while not moves.step(bridge.link):
        pages += 1
    assert pages == 2 * 3
    assert [r.last_seen for r in read(bridge.database)[0]] == [seen + 201_000 for seen in before]


@pytest.mark.parametrize("page", [1, 2, 3])
def test_shift_whose_commit_fails_is_repeated(
    bridge: HeldBridge, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """The bridge remembers no page that is not in the database."""
    bridge.start(tuning=Tuning(shifted_page=page))
    have_five_come(bridge)
    transaction, commits = Store.transaction, count()

    @contextmanager
    def fails_sometimes(store: Store) -> Iterator[Transaction]:
        with transaction(store) as tx:
            yield tx
            if next(commits) % 2 == 0:
                raise StoreError("cannot use the database: it is full")

    monkeypatch.setattr(Store, "transaction", fails_sometimes)
    bridge.clock.set_by_ms += 3_600_000
    for _ in range(20):
        bridge.step(seconds=0.7)
    monkeypatch.setattr(Store, "transaction", transaction)
    assert_all_are_here(bridge)


def test_next_bridge_continues_a_shift(bridge: HeldBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page is shifted, the others are not: no deadline is checked before they are."""
    bridge.start(tuning=Tuning(shifted_page=2))
    have_five_come(bridge)
    bridge.clock.set_by_ms += 3_600_000
    bridge.step()
    bridge.start()
    bridge.connect()
    assert_all_are_here(bridge)


def test_small_step_back_does_not_undo_a_shift(bridge: HeldBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time servers correct each other while the database is away."""
    have_five_come(bridge)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "transaction", no_database)
        bridge.clock.set_by_ms += 3_600_000
        bridge.step(seconds=1)
        bridge.clock.set_by_ms -= 200
        bridge.step(seconds=1)
    assert_all_are_here(bridge)


def test_step_forward_of_less_than_a_second_shifts_no_record(bridge: HeldBridge) -> None:
    """A write for every connection would cost more than it is worth."""
    have_five_come(bridge)
    seen = {r.last_seen for r in read(bridge.database)[0]}
    for _ in range(5):
        bridge.clock.set_by_ms += 900
        bridge.step()
    assert {r.last_seen for r in read(bridge.database)[0]} == seen
    bridge.clock.set_by_ms += 1_100
    bridge.step()
    assert {r.last_seen for r in read(bridge.database)[0]} == {at + 1_100 for at in seen}


def test_step_forward_just_before_an_announcement(
    bridge: HeldBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers have stamps of the new time and are not shifted: their clients stay."""
    bridge.connect()
    bridge.step(bridge.messages(said("login"), said("login", "silent")), seconds=3)
    bridge.parts.announcements.request("a test")

    class SetsTheClock(list[Incoming]):
        """Sets the clock between the check of the loop and the announcement."""

        def __iter__(self) -> Iterator[Incoming]:
            bridge.clock.set_by_ms += 3_600_000
            return super().__iter__()

    bridge.step(Arrivals(SetsTheClock()), seconds=1)
    bridge.step(bridge.messages(said("login")), seconds=2)
    bridge.step(seconds=CONFIRM_MS / 1000 + 1)
    bridge.check()
    assert _reasons(bridge) == {"c1": None, "silent": "unconfirmed"}


def test_no_announcement_before_all_records_are_shifted(
    bridge: HeldBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that is shifted twice, after an uncertain commit, would look like an answer."""
    announce(bridge)
    bridge.step(bridge.messages(said("login", "silent")))
    bridge.step(seconds=CONFIRM_MS / 1000 + 1)
    bridge.check()
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
    bridge.clock.set_by_ms += 3_600_000
    bridge.parts.announcements.request("a test")
    for _ in range(8):
        bridge.step(seconds=0.2)
    assert moves == 2
    assert bridge.link.published.count("bridge/announce") == 2
    bridge.step(bridge.messages(said("login")), seconds=1)
    bridge.step(seconds=CONFIRM_MS / 1000)
    bridge.check()
    assert _reasons(bridge) == {"c1": None, "silent": "unconfirmed"}


@pytest.mark.parametrize("set_by", [0, 2_000, 3_600_000])
def test_waiting_messages_keep_their_age_in_a_step_forward(
    bridge: HeldBridge, monkeypatch: pytest.MonkeyPatch, set_by: int
) -> None:
    """They arrived half an hour ago, by the new time as by the old."""
    bridge.connect()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "transaction", no_database)
        bridge.step(bridge.messages(timed("login", 1)), seconds=3)
        heard = bridge.clock.now()
        for _ in range(30):
            bridge.step(seconds=60)
        bridge.clock.set_by_ms += set_by
        bridge.step(seconds=1)
    bridge.step(seconds=6)
    (record,) = read(bridge.database)[0]
    assert record.login_time == heard + set_by


def test_waiting_message_is_no_answer_to_a_later_announcement(bridge: HeldBridge) -> None:
    """Also if the clock is set forward before the message is processed."""
    bridge.connect()
    bridge.step(bridge.messages(said("login"), said("login", "silent")), seconds=3)
    bridge.link.backlog = 20_001
    bridge.step(bridge.messages(said("activity", "silent")), seconds=1)
    bridge.parts.announcements.request("a test")
    bridge.step(seconds=1)
    bridge.clock.set_by_ms += 3_600_000
    bridge.step(bridge.messages(said("login")), seconds=1)
    bridge.link.backlog = 0
    for _ in range(3):
        bridge.step(seconds=CONFIRM_MS / 1000)
        bridge.check()
    assert _reasons(bridge) == {"c1": None, "silent": "unconfirmed"}


def test_small_steps_back_cause_no_announcement(bridge: HeldBridge) -> None:
    """Steps of less than a tenth of a second are ignored."""
    announce(bridge)
    for _ in range(20):
        bridge.clock.set_by_ms -= 50
        bridge.step(seconds=0.01)
    for _ in range(3):
        bridge.step()
    assert bridge.link.published.count("bridge/announce") == 1


def _reasons(bridge: HeldBridge) -> dict[str, str | None]:
    records, _ = read(bridge.database)
    return {r.connection_id: r.reason for r in records if r.user_id == "alice"}
