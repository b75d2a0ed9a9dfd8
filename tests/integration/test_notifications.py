"""Notifications from the bridge's transaction to a real receiver, on a clock that the tests move."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from mqtt_presence.bridge.notifications.sender import Sender
from mqtt_presence.errors import StoreError
from mqtt_presence.store.notification_queue import NotificationQueue
from mqtt_presence.store.notification_reader import NotificationReader
from mqtt_presence.store.notification_tables import ReceiverState
from mqtt_presence.web.exposition import Exposition
from tests.support.notified_bridge import DAY_S, NotifiedBridge
from tests.support.receiver import Answer, WebhookReceiver
from tests.support.waiting import until

HOUR_S = 3600
STEP_UNTIL_DONE = 500


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as started:
        yield started


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the senders stand still; `drain` and `Sender.step` move them."""
    monkeypatch.setattr(Sender, "start", lambda _: None)


def table(receiver: WebhookReceiver, *on: str, **keys: Any) -> dict[str, Any]:
    return {"name": "ops", "url": receiver.url, "on": list(on) or ["userOnline", "userOffline"]} | keys


def state(bridge: NotifiedBridge, name: str = "ops") -> ReceiverState | None:
    with NotificationReader(bridge.database) as reader, reader.tables() as tables:
        return tables.receiver(name)


def drain(bridge: NotifiedBridge, sender: Sender | None = None) -> float:
    """Step a sender until it waits; return for how long, seconds."""
    for _ in range(STEP_UNTIL_DONE):
        wait_s, _ = (sender or bridge.sender).step()
        if wait_s > 0:
            return wait_s
    raise AssertionError("the sender does not stop sending")


# The way of a notification.


def test_changes_arrive_signed_and_in_order(database: str, receiver: WebhookReceiver, tmp_path: Path) -> None:
    """Each change that a receiver asks for arrives, in the order of the commits, under a signature that holds."""
    key = base64.b64encode(b"k" * 32).decode()
    (tmp_path / "secret").write_text(f"whsec_{key}\n")
    with NotifiedBridge(
        database, table(receiver, users="a*", secret_file=str(tmp_path / "secret"))
    ) as bridge:
        bridge.comes("alice", "bob")
        bridge.goes("alice")
        bridge.comes("alice")
        until(lambda: len(receiver.taken) == 3, "three events")
        assert receiver.told() == [("alice", "userOnline"), ("alice", "userOffline"), ("alice", "userOnline")]
        assert [event["sequence"] for event in receiver.taken] == ["1", "2", "3"]
        for heard, _ in receiver.requests:
            moment = datetime.fromtimestamp(int(heard.headers["webhook-timestamp"]), UTC)
            # Not by `verify`, whose clock is another one than that of the test.
            expected = Verifier(f"whsec_{key}").sign(heard.events[0]["id"], moment, heard.body.decode())
            assert heard.headers["webhook-id"] == heard.events[0]["id"]
            assert heard.headers["webhook-signature"] == expected
        assert len({event["id"] for event in receiver.taken}) == 3


def test_receiver_that_was_down_for_an_hour(stepped: None, database: str, receiver: WebhookReceiver) -> None:
    """Attempts follow the schedule; after an hour everything arrives, in order, each thing under one id."""
    receiver.answer = lambda _: Answer(503)
    users = [f"user-{n}" for n in range(5)]
    with NotifiedBridge(database, table(receiver)) as bridge:
        for _ in range(12):
            for change in (bridge.comes, bridge.goes):
                change(*users)
                drain(bridge)
                bridge.passes(150)
        assert receiver.taken == []
        # At once, after 5 s, 5 min and 30 min; the next one is after two hours.
        assert len(receiver.requests) == 4
        assert len({heard.headers["webhook-id"] for heard, _ in receiver.requests}) == 1
        receiver.answer = lambda _: Answer()
        bridge.passes(2.5 * HOUR_S)
        drain(bridge)
        assert len(receiver.taken) == 120
        for user in users:
            versions = [int(event["sequence"]) for event in receiver.taken if event["subject"] == user]
            assert versions == list(range(1, 25))
        assert len({event["id"] for event in receiver.taken}) == 120
        assert bridge.sender.pending == 0


def test_schedule_to_its_end(stepped: None, sqlite_url: str, receiver: WebhookReceiver) -> None:
    """Ten attempts, at the times of the schedule; then the request is given up and listed, and the next one begins."""
    receiver.answer = lambda heard: Answer(500 if b"userOnline" in heard.body else 204)
    with NotifiedBridge(sqlite_url, table(receiver)) as bridge:
        bridge.comes("alice")
        bridge.goes("alice")
        waits = []
        while not receiver.taken:
            wait_s = drain(bridge)
            waits.append(wait_s)
            bridge.clock.now_s += wait_s - 0.01
            assert drain(bridge) == pytest.approx(0.01, abs=0.005), "not before its time"
            bridge.clock.now_s += 0.02
            if len(waits) == 9:
                drain(bridge)
        schedule = [5, 300, 1800, 2 * HOUR_S, 5 * HOUR_S, 10 * HOUR_S, 14 * HOUR_S, 20 * HOUR_S, 24 * HOUR_S]
        assert all(delay <= wait <= delay * 1.21 for delay, wait in zip(schedule, waits, strict=True))
        assert [status for _, status in receiver.requests] == [500] * 10 + [204]
        with NotificationReader(sqlite_url) as reader, reader.tables() as tables:
            (failure,) = tables.failures("ops", 10)
        assert (failure.user_id, failure.event, failure.attempts, failure.reason) == (
            "alice", "userOnline", 10, "HTTP 500",
        )  # fmt: skip
        assert bridge.sender.failed_attempts == 10


def test_retry_after(stepped: None, sqlite_url: str, receiver: WebhookReceiver) -> None:
    """The receiver's own wish replaces the schedule, and survives a restart of the bridge."""
    receiver.answer = lambda _: Answer(429, {"Retry-After": "120"})
    with NotifiedBridge(sqlite_url, table(receiver)) as bridge:
        bridge.comes("alice")
        assert drain(bridge) == pytest.approx(120, abs=0.1)
        bridge.restart()
        bridge.clock.now_s += 100
        assert drain(bridge) == pytest.approx(20, abs=0.1)
        bridge.clock.now_s += 21
        drain(bridge)
        assert len(receiver.requests) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_failures(
    stepped: None, sqlite_url: str, receiver: WebhookReceiver, status: int
) -> None:
    """No other address than the one of the settings gets a request."""
    with WebhookReceiver() as other:
        receiver.answer = lambda _: Answer(status, {"Location": other.url})
        with NotifiedBridge(sqlite_url, table(receiver)) as bridge:
            bridge.comes("alice")
            drain(bridge)
            stored = state(bridge)
            assert stored is not None
            assert (stored.reason, stored.attempts) == (f"HTTP {status}", 1)
        assert other.requests == []


def test_410_disables_until_a_replay(database: str, receiver: WebhookReceiver) -> None:
    """A receiver that wants no more gets no more, also after a restart; a replay enables it."""
    receiver.answer = lambda _: Answer(410)
    with NotifiedBridge(database, table(receiver)) as bridge:
        bridge.comes("alice")
        until(lambda: (s := state(bridge)) and s.disabled, "it is disabled")
        receiver.answer = lambda _: Answer()
        bridge.restart()
        bridge.goes("alice")
        bridge.passes(DAY_S)
        assert len(receiver.requests) == 1
        begin = bridge.clock.now() - 2 * DAY_S * 1000
        with bridge.store.transaction() as tx:
            assert tx.replay("ops", begin)
        until(lambda: len(receiver.taken) == 2, "the replay")
        assert receiver.told() == [("alice", "userOnline"), ("alice", "userOffline")]
        first = [event["id"] for event in receiver.taken]
        with bridge.store.transaction() as tx:
            assert tx.replay("ops", begin)
        until(lambda: len(receiver.taken) == 4, "another replay")
        assert [event["id"] for event in receiver.taken[2:]] == first


def test_batches(stepped: None, sqlite_url: str, receiver: WebhookReceiver) -> None:
    """A batch waits for its time, has at most 100 events, and a repeated one is the same, whatever came meanwhile."""
    receiver.answer = lambda _: Answer(503)
    with NotifiedBridge(sqlite_url, table(receiver, "userOnline", batch="1s")) as bridge:
        bridge.comes(*(f"user-{n}" for n in range(30)))
        assert drain(bridge) == pytest.approx(1, abs=0.01)
        bridge.clock.now_s += 0.9
        assert drain(bridge) == pytest.approx(0.1, abs=0.01)
        assert receiver.requests == []
        bridge.clock.now_s += 0.2
        bridge.clock.now_s += drain(bridge) + 0.1
        bridge.comes(*(f"user-{n}" for n in range(30, 250)))
        bridge.restart()
        receiver.answer = lambda _: Answer()
        drain(bridge)
        bridge.clock.now_s += 1.1
        drain(bridge)
        assert [len(heard.events) for heard, _ in receiver.requests] == [30, 30, 100, 100, 20]
        ids = [heard.headers["webhook-id"] for heard, _ in receiver.requests]
        assert ids[0] == ids[1]
        assert len(set(ids)) == 4
        assert [event["subject"] for event in receiver.taken] == [f"user-{n}" for n in range(250)]
        assert {heard.headers["content-type"] for heard, _ in receiver.requests} == {
            "application/cloudevents-batch+json"
        }


def test_event_that_a_receiver_refuses_in_a_batch(
    stepped: None, sqlite_url: str, receiver: WebhookReceiver
) -> None:
    """The batch is halved until the refused event is alone; those before it arrive."""
    receiver.answer = lambda heard: Answer(422 if b"user-5" in heard.body else 204)
    with NotifiedBridge(sqlite_url, table(receiver, "userOnline", batch=0)) as bridge:
        bridge.comes(*(f"user-{n}" for n in range(9)))
        assert drain(bridge) == pytest.approx(5, abs=1.1)
        assert [event["subject"] for event in receiver.taken] == [f"user-{n}" for n in range(5)]
        assert [event["subject"] for event in receiver.requests[-1][0].events] == ["user-5"]


# Places in the queue.


def test_new_receiver_begins_now_and_keeps_its_place(database: str, receiver: WebhookReceiver) -> None:
    """A name keeps its place across restarts; a new one begins now; one that was taken out begins again."""
    with WebhookReceiver() as other:
        ops, new = table(receiver), table(other, name="new")
        with NotifiedBridge(database, ops) as bridge:
            bridge.comes("alice")
            until(lambda: len(receiver.distinct) == 1, "the first")
            bridge.restart(ops, new)
            bridge.goes("alice")
            until(lambda: len(receiver.distinct) == 2 and len(other.distinct) == 1, "the second")
            assert receiver.told() == [("alice", "userOnline"), ("alice", "userOffline")]
            assert other.told() == [("alice", "userOffline")]
            bridge.restart(ops)
            bridge.comes("alice")
            bridge.restart(ops, new)
            bridge.goes("alice")
            until(lambda: len(receiver.distinct) == 4 and len(other.distinct) == 2, "the last")
            assert other.told()[1:] == [("alice", "userOffline")]


def test_receiver_that_hangs_delays_no_other_and_no_end(database: str, receiver: WebhookReceiver) -> None:
    """Beside a receiver that never answers, another one gets everything, and the bridge ends at once."""
    with (
        WebhookReceiver(lambda _: Answer(hang=True)) as stuck,
        NotifiedBridge(database, table(stuck, name="stuck"), table(receiver)) as bridge,
    ):
        bridge.comes("alice")
        until(lambda: len(stuck.requests) == 1, "a request that hangs")
        bridge.goes("alice")
        until(lambda: len(receiver.taken) == 2, "the other one")
        thread = bridge.sender._thread
        bridge.end()
        assert thread is not None
        until(lambda: not thread.is_alive(), "its thread has ended", 2)
        stored = state(bridge, "stuck")
        assert stored is not None
        assert (stored.attempts, stored.reason) == (0, None), "an end is no failure"


def test_what_waits_too_long_is_dropped_counted_and_said(
    stepped: None, sqlite_url: str, receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond `notify_keep` notifications are dropped, by the sender or with their rows; the newer ones arrive."""
    receiver.answer = lambda _: Answer(503)
    with NotifiedBridge(sqlite_url, table(receiver), keep_s=HOUR_S) as bridge:
        for _ in range(2):
            bridge.comes("alice")
            bridge.goes("alice")
        drain(bridge)
        bridge.clock.now_s += HOUR_S - 60
        bridge.comes("alice")
        bridge.passes(120)
        stored = state(bridge)
        assert stored is not None
        assert stored.dropped == 4
        assert "notify ops: dropped 4 notifications that waited longer than notify_keep" in caplog.text
        receiver.answer = lambda _: Answer()
        bridge.clock.now_s += 5 * HOUR_S
        bridge.goes("alice")
        drain(bridge)
        assert receiver.told() == [("alice", "userOffline")]
        stored = state(bridge)
        assert stored is not None
        assert stored.dropped == 5
        bridge.passes(2 * HOUR_S)
        with NotificationReader(sqlite_url) as reader, reader.tables() as tables:
            assert len(tables.notifications(0, 100)) == 1, "the last row stays, for its number"


def test_clock_step_drops_nothing(stepped: None, sqlite_url: str, receiver: WebhookReceiver) -> None:
    """A step of fifty years is no time that has passed, before or after a restart."""
    with NotifiedBridge(sqlite_url, table(receiver), keep_s=HOUR_S) as bridge:
        bridge.comes("alice")
        bridge.clock.set_by_ms += 50 * 365 * DAY_S * 1000
        bridge.passes(100)
        bridge.goes("alice")
        bridge.restart()
        bridge.passes(100)
        drain(bridge)
        assert receiver.told() == [("alice", "userOnline"), ("alice", "userOffline")]


def test_without_receivers_there_is_no_queue(sqlite_url: str, receiver: WebhookReceiver) -> None:
    """Without `[[notify]]` no row is written; the rows of an earlier run go."""
    with NotifiedBridge(sqlite_url, table(receiver, "userOnline", "offline > 10m")) as bridge:
        bridge.comes("alice")
        bridge.goes("alice")
        bridge.tables = []
        bridge.restart()
        bridge.comes("alice")
        bridge.passes(100)
        with bridge.store.transaction() as tx:
            assert len(tx.notifications(0, 10)) <= 1
            assert tx.receivers() == {}
            assert tx.next_due_alarm() is None


def test_rows_of_a_kill_between_send_and_store(
    stepped: None, sqlite_url: str, receiver: WebhookReceiver
) -> None:
    """A request that was taken, and not recorded, comes again under the same id."""
    with NotifiedBridge(sqlite_url, table(receiver)) as bridge:
        bridge.comes("alice")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Sender, "_take", lambda *_: (1.0, False))
            drain(bridge)
        bridge.restart()
        drain(bridge)
        assert len(receiver.taken) == 2
        assert receiver.taken[0] == receiver.taken[1]


def test_deleted_database_is_not_made_again(
    sqlite_url: str, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    """A sender makes no database where the file is gone."""
    with NotifiedBridge(sqlite_url, table(receiver)) as bridge:
        bridge.comes("alice")
        until(lambda: len(receiver.taken) == 1, "the first")
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    for file in path.parent.glob("presence.db*"):
        file.unlink()
    with pytest.raises(StoreError), NotificationQueue(sqlite_url).transaction():
        pass
    assert not path.exists()


def test_metrics(stepped: None, sqlite_url: str, receiver: WebhookReceiver) -> None:
    """Metrics count what waits and what failed, by receiver; a start counts what waited before."""
    receiver.answer = lambda _: Answer(503)
    with NotifiedBridge(sqlite_url, table(receiver)) as bridge:

        def series() -> list[str]:
            text = Exposition(bridge.monitor).write("")[0].decode()
            return [line for line in text.splitlines() if line.startswith("mqtt_presence_notify")]

        bridge.comes("alice", "bob")
        drain(bridge)
        expected = [
            'mqtt_presence_notify_pending{name="ops"} 2.0',
            'mqtt_presence_notify_failed_total{name="ops"} 1.0',
        ]
        assert series() == expected
        bridge.restart()
        bridge.goes("alice")
        drain(bridge)
        assert series()[0] == 'mqtt_presence_notify_pending{name="ops"} 3.0'
        receiver.answer = lambda _: Answer()
        bridge.clock.now_s += 10
        drain(bridge)
        assert series()[0] == 'mqtt_presence_notify_pending{name="ops"} 0.0'


def test_payload_is_that_of_mqtt(sqlite_url: str, receiver: WebhookReceiver) -> None:
    """`data` is the payload of the event on MQTT, byte for byte."""
    with NotifiedBridge(sqlite_url, table(receiver, "connectionLogin", "userOnline")) as bridge:
        sent: dict[str, bytes] = {}
        publish = bridge.link.publish

        def watch(messages: Any) -> None:
            messages = list(messages)
            sent.update((m.topic, m.payload) for m in messages)
            publish(messages)

        bridge.link.publish = watch
        bridge.comes("alice")
        until(lambda: len(receiver.taken) == 2, "both")
        for event in receiver.taken:
            name = event["type"].split(".")[1]
            assert event["data"] == json.loads(sent[f"events/alice/{name}"])
