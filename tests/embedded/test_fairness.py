"""The cost of one client's packets: bounded memory, and turns for the other connections."""

import asyncio
import threading
from pathlib import Path

import pytest

from mqtt_presence.embedded import (
    EmbeddedBroker,
    EmbeddedConfig,
    client_connection,
    fair_turns,
    retained_search,
    router,
    send_buffer,
    session_queue,
    sessions,
)
from mqtt_presence.mqtt import packets
from mqtt_presence.mqtt.topic_tree import TopicTree
from tests.embedded.brokers import SECRET, embedded_server
from tests.embedded.raw_client import RawClient
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


def fill(server, users: int) -> RawClient:
    """Publish statuses as the bridge."""
    bridge = server.client("bridge", "b", password=SECRET)
    for n in range(users):
        bridge.publish(f"status/u{n}", STATUS, qos=0, retain=True)
    bridge.ping()
    return bridge


def session_of(server, client_id: str) -> sessions.Session:
    return server.router.sessions[client_id]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def stop(server) -> None:
    """Stop the broker; fail when it does not end."""
    stopping = threading.Thread(target=server.stop, daemon=True)
    stopping.start()
    stopping.join(20)
    assert not stopping.is_alive()


@pytest.mark.parametrize("filters", [("status/+",), OVERLAPPING], ids=["one", "overlapping"])
def test_subscribes_of_a_client_that_does_not_read_delay_no_other(filters):
    """During 2,000 SUBSCRIBEs to 20,000 statuses others are served, memory is bounded, and a stop works."""
    with embedded_server() as server:
        bridge = fill(server, USERS)
        greedy = server.client("mallory", "greedy")
        before = resident_bytes()
        greedy.send(subscribe_packet(*filters) * (2000 // len(filters)))
        alice = server.client("alice", "phone")
        alice.subscribe("status/u7")
        assert alice.message().payload == STATUS
        bridge.publish("status/u7", "new", qos=0, retain=True)
        assert alice.message().payload == b"new"
        session = session_of(server, "greedy")
        until(lambda: set(session.subscriptions) == set(filters), "its packets are handled")
        assert session.queue.retained_count <= retained_search.PORTION
        assert len(session.queue) <= retained_search.PORTION + 1
        assert resident_bytes() - before < 100 << 20
        stop(server)


def test_a_repeated_subscribe_begins_the_delivery_anew():
    """All retained messages follow the last SUBACK, with at most one further delivery in all."""
    with embedded_server() as server:
        fill(server, 5000)
        alice = server.client("alice", "phone")
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
    """After an UNSUBSCRIBE only the messages already on their way are delivered."""
    with embedded_server() as server:
        fill(server, USERS)
        alice = server.client("alice", "phone")
        alice.send(subscribe_packet("status/+") + unsubscribe_packet("status/+"))
        alice.until(11)
        assert len(alice.messages()) <= 2 * retained_search.PORTION
        assert session_of(server, "phone").replay.current is None


def test_a_persistent_session_gets_the_rest_after_a_reconnect():
    """If the connection breaks during a delivery, the next one delivers the missing messages."""
    with embedded_server() as server:
        bridge = server.client("bridge", "b", password=SECRET)
        for n in range(3000):
            bridge.publish(f"status/u{n}", STATUS, qos=1, retain=True)
        bridge.ping()
        alice = server.client("alice", "phone", clean=False)
        alice.subscribe("status/+")
        topics = {alice.message().topic for _ in range(500)}
        alice.kill()
        until(lambda: session_of(server, "phone").connection is None)
        again = server.client("alice", "phone", clean=False)
        assert again.session_present
        while len(topics) < 3000:
            topics.add(again.message().topic)


class ScriptedTransport:
    """A client that sends all bytes at once, and counts the turns of the event loop until their end."""

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
    """When a connection's time is over, the others have their turn, also within one read or one packet."""
    monkeypatch.setattr(fair_turns, "TURN_S", 0.0)
    transport = ScriptedTransport(data)
    with EmbeddedBroker(EmbeddedConfig(port=0)) as broker:
        broker.submit(broker.serve(transport)).result(20)
    assert transport.turns >= 1000


def test_the_queues_of_all_clients_together_are_bounded(monkeypatch):
    """Clients that do not read share the room, and a further client still gets a part."""
    monkeypatch.setattr(router, "QUEUES_LIMIT", 800)
    monkeypatch.setattr(send_buffer, "BUFFER_LIMIT", 1)
    with embedded_server() as server:
        bridge = server.client("bridge", "b", password=SECRET)
        slow = [server.client("mallory", f"slow{n}") for n in range(24)]
        for raw_client in slow:
            raw_client.subscribe("status/+", qos=0)
        for _ in range(400):  # 80 MB for each: no socket takes that
            bridge.publish("status/x", bytes(200_000), qos=0)
        bridge.ping()
        waiting = [session_of(server, f"slow{n}").queue.count for n in range(24)]
        assert max(waiting) >= 15, "they are slow"
        assert sum(waiting) <= 800 * 24 // (24 + 16) + 24
        late = server.client("mallory", "late")
        late.subscribe("status/+", qos=0)
        for _ in range(400):
            bridge.publish("status/x", bytes(200_000), qos=0)
        bridge.ping()
        assert session_of(server, "late").queue.count >= 5
        pool = server.router._queues
        assert pool.used <= 800
        for raw_client in (*slow, late):
            raw_client.kill()
        until(lambda: pool.used == 0, "nobody waits")


def test_subscriptions_of_all_clients_together_are_bounded(monkeypatch):
    """No number of clients uses all subscriptions, and ended sessions release theirs."""
    monkeypatch.setattr(router, "SUBSCRIPTIONS_LIMIT", 320)
    with embedded_server() as server:
        greedy = [server.client("mallory", f"g{n}") for n in range(8)]
        for raw_client in greedy:
            codes = raw_client.subscribe(*(f"status/u{n}" for n in range(100)))
            assert 1 <= codes.count(1) <= 20
            assert codes.count(0x80) == 100 - codes.count(1)
        assert server.client("alice", "phone").subscribe("status/+", "bridge/state") == [1, 1]
        server.bridge(*(f"status/b{n}" for n in range(50)))
        pool = server.router._subscriptions
        for raw_client in greedy:
            raw_client.disconnect()
        until(lambda: pool.used == 52, "they are given back")


def test_a_long_filter_is_refused():
    """Every valid topic is shorter, and a thousand such filters would take 64 MB."""
    with embedded_server(prefix="acme/") as server:
        alice = server.client("alice", "phone")
        assert alice.subscribe("acme/status/" + "x" * 60_000, "acme/status/" + "x" * 128) == [0x80, 1]


@pytest.mark.parametrize("qos", [1, 2])
def test_dropped_messages_use_no_memory(monkeypatch, qos):
    """A dropped message is not acknowledged, and its packet id is not kept."""
    monkeypatch.setattr(session_queue, "BRIDGE_QUEUE_LIMIT", 5)
    monkeypatch.setattr(sessions, "BRIDGE_WINDOW", 5)
    with embedded_server() as server:
        server.bridge()  # which acknowledges nothing
        alice = server.client("alice", "phone")
        for n in range(500):
            alice.publish("presence/alice/phone/activity", str(n), qos=qos)
        alice.ping()
        assert len(session_of(server, "phone").connection._unacknowledged) <= 10


def test_qos_2_messages_without_pubrel_close_the_connection(monkeypatch):
    """A client that never sends PUBREL cannot fill the memory with packet ids."""
    monkeypatch.setattr(client_connection, "RECEIVED_LIMIT", 5)
    with embedded_server() as server:
        alice = server.client("alice", "phone")
        for n in range(5):
            alice.publish("forbidden", str(n), qos=2)
            alice.until(5)
        alice.publish("forbidden", "6", qos=2)
        assert alice.closed()


def test_a_search_survives_changes_of_the_tree():
    """A topic that stays during the search is found once, while other branches come and go."""
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
    assert not tree.ordered
