"""The cost of one client's packets: bounded memory, and turns between which everybody else is served."""

import asyncio
import threading
from pathlib import Path

import pytest

from mqtt_presence.embedded import (
    EmbeddedBroker,
    EmbeddedConfig,
    client_connection,
    retained_search,
    router,
    sessions,
)
from mqtt_presence.mqtt import packets
from mqtt_presence.mqtt.topic_tree import TopicTree
from tests.embedded.brokers import SECRET, ours
from tests.embedded.wire import Wire
from tests.support.waiting import until
from tests.support.web import mqtt_connect

USERS = 20_000
STATUS = b"x" * 200
PAGE = 4096
OVERLAPPING = ("status/+", "status/#", "+/+", "+/#", "#", "+/+/#", "status/+/#")


def subscribe_packet(*filters: str) -> bytes:
    return packets.subscribe_packet([(topic_filter, 1) for topic_filter in filters], 1)


def unsubscribe_packet(*filters: str) -> bytes:
    return packets.unsubscribe_packet(filters, 1)


def fill(house, users: int) -> Wire:
    """Publish statuses as the bridge does."""
    bridge = house.client("bridge", "b", password=SECRET)
    for n in range(users):
        bridge.publish(f"status/u{n}", STATUS, qos=0, retain=True)
    bridge.ping()
    return bridge


def session_of(house, client_id: str) -> sessions.Session:
    return house.broker._broker.router.sessions[client_id]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def stop(house) -> None:
    """Stop the broker; fail when it does not end."""
    stopping = threading.Thread(target=house.stop, daemon=True)
    stopping.start()
    stopping.join(20)
    assert not stopping.is_alive()


@pytest.mark.parametrize("filters", [("status/+",), OVERLAPPING], ids=["one", "overlapping"])
def test_subscribes_of_a_client_that_reads_nothing_keep_nobody_waiting(filters):
    """2,000 SUBSCRIBEs to 20,000 statuses: another client gets in and is served, memory is bounded, a stop ends it."""
    with ours() as house:
        bridge = fill(house, USERS)
        greedy = house.client("mallory", "greedy")
        before = resident_bytes()
        greedy.send(subscribe_packet(*filters) * (2000 // len(filters)))
        alice = house.client("alice", "phone")
        alice.subscribe("status/u7")
        assert alice.message().payload == STATUS
        bridge.publish("status/u7", "new", qos=0, retain=True)
        assert alice.message().payload == b"new"
        session = session_of(house, "greedy")
        until(lambda: set(session.subscriptions) == set(filters), "its packets are handled")
        assert session.catch_up.queued <= retained_search.PORTION
        assert len(session.queue) <= retained_search.PORTION + 1
        assert resident_bytes() - before < 100 << 20
        stop(house)


def test_a_repeated_subscribe_begins_the_delivery_anew():
    """All retained messages come after the last SUBACK, once more in all than one delivery at the most."""
    with ours() as house:
        fill(house, 5000)
        alice = house.client("alice", "phone")
        alice.send(subscribe_packet("status/+") * 20)
        topics: set[str] = set()
        subacks = count = 0
        while subacks < 20 or len(topics) < 5000:
            found = alice.read()
            if found.kind == 9:
                subacks += 1
                topics.clear()
            elif found.kind == 3:
                alice.ack(found)
                topics.add(found.topic)
                count += 1
        count += len(alice.messages())
        assert count <= 2 * 5000 + 20 * retained_search.PORTION


def test_an_unsubscribe_ends_the_delivery():
    """Of a subscription that is taken back, nothing comes but what was on its way."""
    with ours() as house:
        fill(house, USERS)
        alice = house.client("alice", "phone")
        alice.send(subscribe_packet("status/+") + unsubscribe_packet("status/+"))
        alice.until(11)
        assert len(alice.messages()) <= 2 * retained_search.PORTION
        assert session_of(house, "phone").catch_up.current is None


def test_a_persistent_session_gets_the_rest_when_it_is_back():
    """The connection breaks in the middle of a delivery: the next one brings what is missing."""
    with ours() as house:
        bridge = house.client("bridge", "b", password=SECRET)
        for n in range(3000):
            bridge.publish(f"status/u{n}", STATUS, qos=1, retain=True)
        bridge.ping()
        alice = house.client("alice", "phone", clean=False)
        alice.subscribe("status/+")
        topics = {alice.message().topic for _ in range(500)}
        alice.kill()
        until(lambda: session_of(house, "phone").connection is None)
        again = house.client("alice", "phone", clean=False)
        assert again.session_present
        while len(topics) < 3000:
            topics.add(again.message().topic)


class Script:
    """A peer that sends some bytes at once, and counts the turns of the loop until all are handled."""

    address = "192.0.2.1"

    def __init__(self, data: bytes) -> None:
        self._chunks = [mqtt_connect("script"), data]
        self._answers = 0
        self.turns = 0
        self._counter: asyncio.Task[None] | None = None

    async def receive(self) -> bytes:
        if not self._chunks:
            return b""
        if len(self._chunks) == 1:
            while not self._answers:  # noqa: ASYNC110 - until the CONNACK
                await asyncio.sleep(0)
            self._counter = asyncio.create_task(self._count())
        return self._chunks.pop(0)

    async def _count(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)

    async def send(self, data: bytes) -> None:
        self._answers += len(data)

    async def close(self) -> None:
        if self._counter is not None:
            self._counter.cancel()

    def abort(self) -> None:
        pass


@pytest.mark.parametrize("data", [
    subscribe_packet("status/+") * 1000,
    subscribe_packet(*(f"status/u{n}" for n in range(1000))),
    subscribe_packet(*("$SYS" for _ in range(1000))),
    unsubscribe_packet(*("a" for _ in range(1000))),
    unsubscribe_packet("a") * 1000,
    b"\xc0\0" * 1000,
    packets.publish_packet("status/forbidden", b"") * 1000,
    packets.publish_packet("presence/alice/script/activity", b"", 1) * 1000,
], ids=["subscribe", "filters", "refused", "unfilters", "unsubscribe", "ping", "forbidden", "publish"])  # fmt: skip
def test_a_burst_of_one_client_is_handled_in_turns(monkeypatch, data):
    """However much is in one read or in one packet: when its time is over, the others come first."""
    monkeypatch.setattr(client_connection, "TURN_S", 0.0)
    peer = Script(data)
    with EmbeddedBroker(EmbeddedConfig(port=0)) as broker:
        broker.submit(broker.serve(peer)).result(20)
    assert peer.turns >= 1000


def test_what_waits_for_all_clients_together_is_bounded(monkeypatch):
    """Clients that read nothing share the room: no number of them takes it all, one more still gets some."""
    monkeypatch.setattr(router, "QUEUES_LIMIT", 800)
    monkeypatch.setattr(client_connection, "OUTBOX_LIMIT", 1)
    with ours() as house:
        bridge = house.client("bridge", "b", password=SECRET)
        slow = [house.client("mallory", f"slow{n}") for n in range(24)]
        for wire in slow:
            wire.subscribe("status/+", qos=0)
        for _ in range(400):  # 80 MB for each: no socket takes that
            bridge.publish("status/x", bytes(200_000), qos=0)
        bridge.ping()
        waiting = [session_of(house, f"slow{n}").queued for n in range(24)]
        assert max(waiting) >= 15, "they are slow"
        assert sum(waiting) <= 800 * 24 // (24 + 16) + 24
        late = house.client("mallory", "late")
        late.subscribe("status/+", qos=0)
        for _ in range(400):
            bridge.publish("status/x", bytes(200_000), qos=0)
        bridge.ping()
        assert session_of(house, "late").queued >= 5
        pool = house.broker._broker.router._waiting
        assert pool.used <= 800
        for wire in (*slow, late):
            wire.kill()
        until(lambda: pool.used == 0, "nobody waits")


def test_subscriptions_of_all_clients_together_are_bounded(monkeypatch):
    """No number of clients takes all, and they are given back."""
    monkeypatch.setattr(router, "SUBSCRIPTIONS_LIMIT", 320)
    with ours() as house:
        greedy = [house.client("mallory", f"g{n}") for n in range(8)]
        for wire in greedy:
            codes = wire.subscribe(*(f"status/u{n}" for n in range(100)))
            assert 1 <= codes.count(1) <= 20
            assert codes.count(0x80) == 100 - codes.count(1)
        assert house.client("alice", "phone").subscribe("status/+", "bridge/state") == [1, 1]
        house.bridge(*(f"status/b{n}" for n in range(50)))
        pool = house.broker._broker.router._subscriptions
        for wire in greedy:
            wire.disconnect()
        until(lambda: pool.used == 52, "they are given back")


def test_a_long_filter_is_refused():
    """No topic is as long; a thousand of them would take 64 MB."""
    with ours(prefix="acme/") as house:
        alice = house.client("alice", "phone")
        assert alice.subscribe("acme/status/" + "x" * 60_000, "acme/status/" + "x" * 128) == [0x80, 1]


@pytest.mark.parametrize("qos", [1, 2])
def test_messages_that_the_bridge_never_gets_leave_nothing_behind(monkeypatch, qos):
    """What is dropped is not acknowledged, and not remembered either."""
    monkeypatch.setattr(sessions, "BRIDGE_QUEUE_LIMIT", 5)
    monkeypatch.setattr(sessions, "WINDOW", 5)
    with ours() as house:
        house.bridge()  # which acknowledges nothing
        alice = house.client("alice", "phone")
        for n in range(500):
            alice.publish("presence/alice/phone/activity", str(n), qos=qos)
        alice.ping()
        assert len(session_of(house, "phone").connection._held) <= 10


def test_messages_of_quality_two_without_an_end_close_the_connection(monkeypatch):
    """A client that never sends PUBREL cannot fill the memory with packet ids."""
    monkeypatch.setattr(client_connection, "RECEIVED_LIMIT", 5)
    with ours() as house:
        alice = house.client("alice", "phone")
        for n in range(5):
            alice.publish("forbidden", str(n), qos=2)
            alice.until(5)
        alice.publish("forbidden", "6", qos=2)
        assert alice.closed()


def test_a_search_survives_changes_of_the_tree():
    """Branches come and go between its steps: what is there throughout is found, and once."""
    tree: TopicTree[str] = TopicTree()

    def put(topic: str, value: str | None = "x") -> None:
        tree.put(topic.split("/"), topic if value else None)

    for n in range(100):
        put(f"status/u{n}")
    put("bridge/state")
    found = []
    for step, topic in enumerate(tree.matching_topics(["+", "+"])):
        if topic is not None:
            found.append(topic)
        if step < 90:
            put(f"status/u{step}", None)  # one behind, or just found, or still to come
            put(f"status/new{step}")
    stays = {f"status/u{n}" for n in range(90, 100)} | {"bridge/state"}
    assert stays <= set(found)
    assert len(found) == len(set(found))
    for topic in (
        "bridge/state",
        *(f"status/u{n}" for n in range(100)),
        *(f"status/new{n}" for n in range(90)),
    ):
        put(topic, None)
    assert not tree.children
    assert not tree.order
