"""The watcher's table: versions, forgotten users and junk; and its observers."""

import json
import signal
import threading
from contextlib import suppress

import pytest

from mqtt_presence.client import observers
from mqtt_presence.client.bridge_presence import BridgePresence
from mqtt_presence.client.observers import Changes, Observer
from mqtt_presence.client.status_table import Change, StatusTable
from mqtt_presence.errors import PayloadError, PresenceError
from mqtt_presence.mqtt.backoff import STEADY_AFTER_S, Backoff
from mqtt_presence.protocol.outgoing import encode_bridge_state, encode_status
from mqtt_presence.rules.model import LastLogin, State, Status

MS = 1_800_000_000_123


def payload(user="alice", version=1, state=State.ONLINE):
    count = 0 if state is State.OFFLINE else 1
    return encode_status(
        user, Status(state=state, since=MS, connections=count), version=version, last_seen=MS
    )


def test_status_is_what_the_bridge_wrote():
    """Every field arrives, with times aware and in UTC."""
    status = Status(
        state=State.IDLE,
        since=MS,
        connections=2,
        last_activity=MS - 5,
        last_login=LastLogin(order=1, date=MS - 9, ip_addr="10.0.0.1", user_agent="x"),
    )
    change = StatusTable().apply(
        "alice", encode_status("alice", status, version=7, last_seen=MS, private=True)
    )
    new = change.new
    assert change.old is None
    assert (new.user_id, new.state, new.online, new.idle, new.connections, new.version) == (
        "alice",
        "idle",
        True,
        True,
        2,
        7,
    )
    assert round(new.since.timestamp() * 1000) == MS
    assert round(new.last_activity.timestamp() * 1000) == MS - 5
    assert new.last_login.date.utcoffset().total_seconds() == 0
    assert (new.last_login.ip_addr, new.last_login.user_agent) == ("10.0.0.1", "x")
    offline = StatusTable().apply("alice", payload(state=State.OFFLINE)).new
    assert (offline.state, offline.online, offline.idle, offline.last_login) == (
        State.OFFLINE,
        False,
        None,
        None,
    )


def test_only_a_newer_version_counts():
    """An older version is dropped and counted; an equal one is a repeated publication without effect."""
    table = StatusTable()
    first = table.apply("alice", payload(version=5)).new
    assert table.apply("alice", payload(version=4, state=State.OFFLINE)) is None
    assert table.apply("alice", payload(version=5, state=State.OFFLINE)) is None
    assert table.users == {"alice": first}
    assert table.ignored == {"stale": 1}
    change = table.apply("alice", payload(version=6, state=State.OFFLINE))
    assert (change.old.version, change.new.version) == (5, 6)


def test_tombstone_removes_and_what_is_older_does_not_bring_back():
    """An empty payload forgets the user; only a newer version brings the user back."""
    table = StatusTable()
    assert table.apply("alice", b"") is None
    table.apply("alice", payload(version=5))
    change = table.apply("alice", b"")
    assert (change.old.version, change.new, change.user_id) == (5, None, "alice")
    assert table.apply("alice", payload(version=5)) is None
    assert table.users == {}
    assert table.apply("alice", payload(version=6)).old is None


@pytest.mark.parametrize(
    "junk",
    [
        b"x",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 5000,
        b" " * 9000,
        json.dumps({"userId": "mallory", "state": "online", "online": True, "version": 9}).encode(),
        json.dumps({"userId": "alice", "state": "dancing", "online": True, "version": 9}).encode(),
        json.dumps({"userId": "alice", "state": "online", "online": True, "version": -1}).encode(),
        json.dumps(
            {
                "userId": "alice",
                "state": "online",
                "online": True,
                "version": 9,
                "since": "2026-01-01T00:00:00",
            }
        ).encode(),
    ],
)
def test_junk_is_counted_and_changes_nothing(junk):
    """Junk on a status topic changes no known status."""
    table = StatusTable()
    before = table.apply("alice", payload(version=1)).new
    assert table.apply("alice", junk) is None
    assert table.users == {"alice": before}
    assert sum(table.ignored.values()) == 1


def test_unknown_fields_are_ignored():
    """Unknown fields of a newer bridge are ignored."""
    text = json.dumps({"userId": "alice", "state": "online", "online": True, "version": 1, "mood": "fine"})
    assert StatusTable().apply("alice", text.encode()) is not None


def test_prune_removes_users_without_a_status():
    """After a reconnect, users without a status are removed; the others stay, even with an unchanged version."""
    table = StatusTable()
    for user in ("alice", "bob", "carol"):
        table.apply(user, payload(user))
    assert table.is_confirmed
    table.reconnected()
    table.apply("alice", payload("alice"))
    table.apply("bob", payload("bob", version=2))
    assert not table.is_confirmed
    assert [change.user_id for change in table.prune()] == ["carol"]
    assert set(table.users) == {"alice", "bob"}
    assert table.is_confirmed
    assert table.prune() == []
    assert table.apply("carol", payload("carol")) is not None


class RecordedCalls:
    def __init__(self, **options):
        self.calls = []
        self.observer = Observer(
            lambda new: self.calls.append(("added", new.version)),
            lambda new, old: self.calls.append(("changed", new.version, old.version)),
            lambda old: self.calls.append(("removed", old.version)),
            options.get("where"),
            lambda _: None,
        )
        self.table = StatusTable()

    def receive(self, data):
        change = self.table.apply("alice", data)
        if change is not None:
            self.observer.notify(change)


def test_observer_follows_a_predicate():
    """Callbacks: added when a user starts to match, changed while matching, removed when no longer matching."""
    observed = RecordedCalls(where=lambda user: user.online)
    observed.receive(payload(version=1, state=State.OFFLINE))
    observed.receive(payload(version=2))
    observed.receive(payload(version=3, state=State.IDLE))
    observed.receive(payload(version=4, state=State.OFFLINE))
    observed.receive(payload(version=5, state=State.OFFLINE))
    observed.receive(payload(version=6))
    observed.receive(b"")
    assert observed.calls == [("added", 2), ("changed", 3, 2), ("removed", 3), ("added", 6), ("removed", 6)]


def test_observer_without_predicate_gets_all_users():
    """Without a predicate all users match; after `stop`, no callback is called."""
    observed = RecordedCalls()
    observed.receive(payload(version=1, state=State.OFFLINE))
    observed.receive(payload(version=2))
    observed.observer.stop()
    observed.observer.stop()
    observed.receive(payload(version=3))
    assert observed.calls == [("added", 1), ("changed", 2, 1)]


def test_observer_survives_failing_callbacks():
    """Exceptions of callbacks and predicates are logged; the change still counts as observed."""
    calls = []

    def bad(*statuses):
        calls.append(statuses)
        raise RuntimeError("user code")

    observer = Observer(bad, bad, bad, None, lambda _: None)
    one = StatusTable().apply("alice", payload(version=1)).new
    two = StatusTable().apply("alice", payload(version=2)).new
    observer.notify(Change(None, one))
    observer.notify(Change(one, two))
    observer.notify(Change(two, None))
    assert calls == [(one,), (two, one), (two,)]
    Observer(bad, bad, bad, bad, lambda _: None).notify(Change(None, one))


def test_changes_end_after_their_timeout_and_on_close():
    """The iterator ends at the timeout, and permanently when it is closed."""
    changes = Changes(0.01)
    assert list(changes) == []
    change = Change(None, StatusTable().apply("alice", payload()).new)
    changes.put(change)
    changes.put(None)
    assert list(changes) == [change]
    assert list(changes) == []


def test_changes_that_nobody_fetches_fail_loudly(monkeypatch):
    """Memory is bounded, and a loss is an error."""
    changes = Changes(None)
    assert observers.MAX_PENDING == 100_000
    monkeypatch.setattr(observers, "MAX_PENDING", 1)
    change = Change(None, StatusTable().apply("alice", payload()).new)
    for _ in range(4):
        changes.put(change)
    assert next(changes) == change
    with pytest.raises(PresenceError, match="not fetched"):
        next(changes)
    assert list(changes) == []


def test_changes_can_be_ended_by_whoever_was_interrupted_in_them():
    """Ctrl-C at any instruction leaves no lock behind that the end would wait for."""

    class InterruptError(Exception):
        pass

    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise InterruptError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for n in range(100):
            changes = Changes(0.0)
            interrupted.clear()
            with suppress(InterruptError):
                signal.setitimer(signal.ITIMER_REAL, 0.000_1 + n % 37 * 0.000_003)
                # The flag, because an error that is raised in a callback of the garbage collector goes no further.
                while not interrupted.is_set():
                    list(changes)
            end = threading.Thread(target=changes.put, args=(None,), daemon=True)
            end.start()
            end.join(5)
            assert not end.is_alive(), n
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_bridge_state_is_followed():
    """The bridge is offline until its state arrives; `receive` returns True when it comes online."""
    bridge = BridgePresence()
    assert not bridge.online
    assert bridge.receive(encode_bridge_state("online", 3, MS))
    assert bridge.online
    assert not bridge.receive(encode_bridge_state("online", 4, MS))
    assert not bridge.receive(encode_bridge_state("offline", 5, MS))
    assert not bridge.online
    assert bridge.receive(encode_bridge_state("online", 6, MS))
    bridge.reset()
    assert not bridge.online


def test_late_will_of_an_old_bridge_is_dropped():
    """A message with an older version is dropped; that of a bridge with a new database is not."""
    bridge = BridgePresence()
    bridge.receive(encode_bridge_state("online", 9, MS))
    bridge.receive(encode_bridge_state("offline", 8, MS - 1000))
    assert bridge.online
    bridge.receive(encode_bridge_state("offline", 1, MS + 1000))
    assert not bridge.online
    with pytest.raises(PayloadError):
        bridge.receive(b'{"state":"maybe"}')
    assert not bridge.receive(b"")


def test_backoff_doubles_to_its_limit_with_jitter():
    """Delays are between half and all of 1, 2, 4 ... seconds up to the longest; only success resets them."""
    most = Backoff(1, 10, lambda: 1.0)
    assert [most.next(0) for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert most.next(STEADY_AFTER_S - 1) == 10
    assert most.next(STEADY_AFTER_S) == 1
    least = Backoff(1, 10, lambda: 0.0)
    assert [least.next(0) for _ in range(3)] == [0.5, 1, 2]
    for _ in range(2000):
        assert most.next(0) <= 10
