"""A simulated mosquitto, a bridge that crashes when it likes, and what must be true of the records afterwards.

One client id, which two users fight for, over TCP and WebSocket; lines and logins in the broker's order; batches that
are committed or lost, acknowledged or delivered again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mqtt_presence.adapters.brokers.mosquitto import ERRORS, NOTICES, VERSION
from mqtt_presence.bridge.batch_recorder import Batch
from mqtt_presence.bridge.broker_connections import BrokerConnections
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules import fold
from mqtt_presence.rules.events import BrokerReport, End, Login
from mqtt_presence.rules.model import Connection, Reason, RuleSettings, UserId, UserPresence
from tests.support.redelivery_journal import RedeliveryJournal

CLIENT = "x"
USERS = ("alice", "mallory")
SETTINGS = RuleSettings()


@dataclass
class Live:
    """A connection with the broker."""

    user: str
    port: int
    websocket: bool
    connection_id: str | None = None
    """None: it has not logged in."""


@dataclass
class Mosquitto:
    """What it would send to the bridge, in order: lines and logins."""

    is_2_1: bool
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    live: Live | None = None
    second: int = 100
    ports: int = 1000
    late: int = 0
    """WebSockets that were taken over and are not closed yet."""
    dead: list[Live] = field(default_factory=list)

    def log(self, line: str, topic: str = NOTICES) -> None:
        self.sent.append((topic, f"{self.second}: {line}".encode()))

    def end_line(self, live: Live, words_2_0: str, words_2_1: str) -> None:
        if self.is_2_1:
            self.log(f"Client {CLIENT} [192.0.2.1:{live.port}] disconnected{words_2_1}.")
        else:
            self.log(f"Client {CLIENT} {words_2_0}")

    def connect(self, user: str, *, websocket: bool) -> None:
        if self.live is not None:
            self.dead.append(self.live)
            if self.is_2_1:
                self.end_line(self.live, "", ": session taken over")
            else:
                self.log(f"Client {CLIENT} already connected, closing old connection.", ERRORS)
                self.late += self.live.websocket
        self.ports += 1
        self.live = Live(user, self.ports, websocket)
        if not websocket:
            self.log(f"New connection from 192.0.2.1:{self.ports} on port 1883.")
        self.log(f"New client connected from 192.0.2.1:{self.ports} as {CLIENT} (p2, c1, k60, u'{user}').")

    def login(self) -> None:
        if self.live is not None:
            self.live.connection_id = f"id-{self.live.port}"
            self.sent.append((f"presence/{self.live.user}/login", self.live.connection_id.encode()))

    def leave(self, how: str) -> None:
        if self.live is None:
            return
        if how == "silent" and self.live.websocket and not self.is_2_1:
            how = "closed"  # what 2.0 says of it
        words = {
            "left": ("disconnected.", ""),
            "closed": ("closed its connection.", ": connection closed by client"),
            "silent": ("has exceeded timeout, disconnecting.", ": exceeded timeout"),
        }[how]
        self.end_line(self.live, *words)
        self.dead.append(self.live)
        self.live = None

    def publish_will(self) -> None:
        """Of the one that went last."""
        if self.dead and self.dead[-1].connection_id is not None:
            self.sent.append((f"presence/{self.dead[-1].user}/will", self.dead[-1].connection_id.encode()))

    def close_late(self) -> None:
        if self.late:
            self.late -= 1
            self.log(f"Client {CLIENT} closed its connection.")

    def refuse(self) -> None:
        """Somebody claims the id and is not let in."""
        stranger = Live("", 1, websocket=False)
        self.end_line(stranger, "disconnected, not authorised.", ": not authorised")
        self.end_line(stranger, "disconnected due to protocol error.", ": protocol error")


class FakeLink:
    is_mqtt5 = True

    def subscribe(self, _topic_filter: str, *, required: bool) -> None:
        pass


class Bridge:
    """Takes, commits, acknowledges; may lose any of it."""

    def __init__(self, broker: Mosquitto) -> None:
        self.broker = broker
        self.users = {user: UserPresence(user_id=user) for user in USERS}
        self.acknowledged = 0
        self.taken = 0
        self.delivered = 0
        self.pending: list[tuple[Incoming, Login | End | BrokerReport | None]] = []
        self.database: dict[str, str] = {}
        self.journal = RedeliveryJournal()
        self.start()

    # The part of a database that `BrokerConnections` uses.

    def read_value(self, name: str) -> str | None:
        return self.database.get(name)

    def read_values(self, prefix: str) -> dict[str, str]:
        return {n.removeprefix(prefix): v for n, v in self.database.items() if n.startswith(prefix)}

    def write_value(self, name: str, value: str | None) -> None:
        self.database.pop(name, None)
        if value is not None:
            self.database[name] = value

    def network_connections(self, _limit: int) -> list[tuple[str, str, int, str | None]]:
        opened = [c for user in self.users.values() for c in user.connections.values() if c.is_open]
        opened.sort(key=lambda c: c.login_time or 0)
        return [(c.user_id, c.client_id, c.network_id, c.ip_addr) for c in opened if c.network_id is not None]

    def start(self) -> None:
        self.journal.restart()
        self.connections = BrokerConnections(None)  # type: ignore[arg-type]
        self.connections.restore(self)  # type: ignore[arg-type]
        version = b"mosquitto version 2.1.2" if self.broker.is_2_1 else b"mosquitto version 2.0.21"
        self.connections.read(Incoming(VERSION, version, 1, True, False, 1, 1), 0)
        self.reconnect()

    def reconnect(self) -> None:
        """What was taken and not committed is gone, what was not acknowledged comes again."""
        self.connections.connected(FakeLink(), session_present=True, contested=False)  # type: ignore[arg-type]
        self.pending = []
        self.taken = self.acknowledged

    def take(self, count: int) -> None:
        for topic, payload in self.broker.sent[self.taken : self.taken + count]:
            now = 10 * self.taken
            is_repeated = self.taken < self.delivered
            message = Incoming(topic, payload, 1, False, is_repeated, 1 + self.taken, 1)
            event: Login | End | BrokerReport | None = None
            if topic.endswith("/will"):
                event = End(
                    user_id=topic.split("/")[1],
                    client_id=CLIENT,
                    connection_id=payload.decode(),
                    now=now,
                    reason=Reason.LOST,
                )
            elif topic.endswith("/login"):
                user = topic.split("/")[1]
                connection = self.connections.connection_of(user, CLIENT)
                event = Login(
                    user_id=user,
                    client_id=CLIENT,
                    connection_id=payload.decode(),
                    now=now,
                    network_id=connection and connection.network_id,
                    ip_addr=connection and connection.address,
                )
            else:
                self.journal.redeliveries.forget_packet_id(message)
                if not self.journal.redeliveries.is_repeated(message):
                    event = next(iter(self.connections.read(message, now)), None)
            self.pending.append((message, event))
            self.taken += 1
            self.delivered = max(self.delivered, self.taken)

    def commit(self, at_most: int = 99) -> None:
        """Commit as `BatchCommit` does."""
        batch, self.pending = self.pending[:at_most], self.pending[at_most:]
        events = [event for _, event in batch if event is not None]
        done = Batch([message for message, _ in batch])
        for event in events:
            done.events.setdefault(UserId(event.user_id), []).append(event)
        self.connections.new.save_batch(self, done)  # type: ignore[arg-type]
        self.journal.commit([(message, id(message) in self.connections.uncommitted) for message, _ in batch])
        for event in events:
            outcome = fold.fold(self.users[event.user_id], [event], SETTINGS)
            self.users[event.user_id] = outcome.user
        self.connections.new.batch_committed(done, ())

    def acknowledge(self, count: int) -> None:
        self.acknowledged = min(self.taken - len(self.pending), self.acknowledged + count)

    def finish(self) -> None:
        self.take(len(self.broker.sent))
        self.commit(len(self.broker.sent))
        self.acknowledge(len(self.broker.sent))

    def records(self) -> dict[str, Connection]:
        return {c.connection_id: c for user in self.users.values() for c in user.connections.values()}


steps = st.one_of(
    st.tuples(st.just("connect"), st.sampled_from(USERS), st.booleans()),
    st.tuples(st.just("login")),
    st.tuples(st.just("login")),
    st.tuples(st.just("leave"), st.sampled_from(["left", "closed", "silent"])),
    st.tuples(st.just("will")),
    st.tuples(st.just("late")),
    st.tuples(st.just("refuse")),
    st.tuples(st.just("wait"), st.integers(1, 2)),
    st.tuples(st.just("take"), st.integers(1, 6)),
    st.tuples(st.just("commit")),
    st.tuples(st.just("commit"), st.integers(1, 3)),
    st.tuples(st.just("acknowledge"), st.integers(1, 6)),
    st.tuples(st.just("reconnect")),
    st.tuples(st.just("restart")),
)


def play(plan: Iterable[tuple[Any, ...]], *, is_2_1: bool) -> tuple[Mosquitto, Bridge]:
    broker = Mosquitto(is_2_1)
    bridge = Bridge(broker)
    for step in plan:
        match step:
            case "connect", user, websocket:
                broker.connect(user, websocket=websocket)
            case ("login",):
                broker.login()
            case "leave", how:
                broker.leave(how)
            case ("will",):
                broker.publish_will()
            case ("late",):
                broker.close_late()
            case ("refuse",):
                broker.refuse()
            case "wait", seconds:
                broker.second += seconds
            case "take", count:
                bridge.take(count)
            case "commit", *at_most:
                bridge.commit(*at_most)
            case "acknowledge", count:
                bridge.acknowledge(count)
            case ("reconnect",):
                bridge.reconnect()
            case ("restart",):
                bridge.start()
    bridge.finish()
    return broker, bridge


COMMITTED = (("take", 9), ("commit",))
TAKEN_BACK: tuple[tuple[Any, ...], ...] = (
    ("connect", "mallory", True),
    ("connect", "alice", False),
    ("login",),
)
CRASHED = (("take", 9), ("commit",), ("restart",))


@settings(max_examples=700, deadline=None)
@given(st.lists(steps, max_size=40), st.booleans())
@example(
    [
        ("connect", "alice", False),
        ("login",),
        ("leave", "left"),
        ("connect", "alice", False),
        ("login",),
        *CRASHED,
    ],
    False,
)
@example(
    [
        ("connect", "mallory", True),
        ("connect", "alice", False),
        ("login",),
        ("late",),
        ("take", 9),
        ("commit",),
    ],
    False,
)
@example([*TAKEN_BACK, *COMMITTED, ("acknowledge", 9), ("restart",), ("late",)], False)
@example([*TAKEN_BACK, *COMMITTED, ("restart",), ("late",)], False)
@example([*TAKEN_BACK, *COMMITTED, ("late",), ("take", 1), ("reconnect",)], False)
@example([*TAKEN_BACK, ("late",), *COMMITTED, ("restart",)], False)
@example([*TAKEN_BACK, ("take", 1), ("commit",), ("acknowledge", 1), ("restart",), ("late",)], False)
@example(
    [
        *TAKEN_BACK,
        ("leave", "closed"),
        ("will",),
        *COMMITTED,
        ("acknowledge", 9),
        ("restart",),
        ("connect", "alice", False),
        ("login",),
        ("late",),
    ],
    False,
)
@example(
    [
        ("connect", "alice", True),
        ("login",),
        *COMMITTED,
        ("acknowledge", 2),
        ("connect", "alice", False),
        ("login",),
        ("take", 1),
        ("restart",),
        ("late",),
    ],
    False,
)
@example(
    [("connect", "alice", False), ("login",), ("connect", "mallory", False), ("wait", 1), ("connect", "alice", False),
     ("login",), *CRASHED],
    False,
)  # fmt: skip
def test_nobody_who_is_connected_is_ended(plan: list[tuple[Any, ...]], is_2_1: bool) -> None:
    """Whatever is taken over, refused, lost, delivered again: who is connected and has logged in has an open record,
    with no other's address.
    """
    broker, bridge = play(plan, is_2_1=is_2_1)
    if broker.live is not None and broker.live.connection_id is not None:
        record = bridge.records()[broker.live.connection_id]
        assert record.is_open, (broker.sent, record)


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=40))
@example([("connect", "alice", False), ("login",), ("leave", "left"), ("take", 3), ("reconnect",)])
@example([("connect", "alice", False), ("login",), ("connect", "alice", False), ("leave", "closed")])
@example(
    [("connect", "alice", False), ("login",), ("take", 1), ("commit",), ("acknowledge", 1), ("restart",)]
)
@example(
    [
        ("connect", "alice", False),
        ("login",),
        *COMMITTED,
        ("acknowledge", 9),
        ("connect", "mallory", False),
        ("login",),
        ("take", 9),
        ("reconnect",),
    ]
)
@example(
    [
        ("connect", "alice", False),
        ("login",),
        *COMMITTED,
        ("acknowledge", 9),
        ("connect", "mallory", False),
        ("login",),
        ("take", 9),
        ("restart",),
    ]
)
@example(
    [
        ("connect", "alice", False),
        ("login",),
        *COMMITTED,
        ("acknowledge", 9),
        ("connect", "mallory", False),
        ("leave", "left"),
        ("take", 9),
        ("reconnect",),
    ]
)
def test_on_2_1_everybody_who_is_gone_has_ended(plan: list[tuple[Any, ...]]) -> None:
    """2.1 tells all that is needed: no record of a client that is gone stays open, crash or no crash."""
    broker, bridge = play([*plan, ("take", 99), ("commit",), ("wait", 5)], is_2_1=True)
    broker.connect("alice", websocket=False)
    broker.leave("left")
    bridge.finish()
    gone = [live.connection_id for live in broker.dead if live.connection_id is not None]
    records = bridge.records()
    assert [records[name] for name in gone if records[name].is_open] == []


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=40))
def test_on_2_0_who_left_has_ended(plan: list[tuple[Any, ...]]) -> None:
    """A DISCONNECT is believed on 2.0 too: afterwards no record of the client is open."""
    broker, bridge = play(plan, is_2_1=False)
    broker.connect("alice", websocket=False)
    broker.login()
    broker.leave("left")
    bridge.finish()
    assert [r for r in bridge.records().values() if r.is_open] == []


tcp_steps = st.one_of(
    st.tuples(st.just("connect"), st.sampled_from(USERS), st.just(False)),
    st.tuples(st.just("login")),
    st.tuples(st.just("leave"), st.sampled_from(["left", "closed", "silent"])),
    st.tuples(st.just("wait"), st.integers(1, 2)),
    st.tuples(st.just("take"), st.integers(1, 6)),
    st.tuples(st.just("commit")),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(tcp_steps, max_size=40))
@example([("connect", "alice", False), ("connect", "alice", False), ("login",), ("leave", "closed")])
def test_on_2_0_everybody_who_is_gone_from_tcp_has_ended(plan: list[tuple[Any, ...]]) -> None:
    """Over TCP a takeover leaves no late line, so every end is believed: no record of a client that is gone is open."""
    broker, bridge = play(plan, is_2_1=False)
    records = bridge.records()
    gone = [live.connection_id for live in broker.dead if live.connection_id is not None]
    live = None if broker.live is None else broker.live.connection_id
    same = (
        broker.live is not None and live is None
    )  # it is connected again, and has not logged in: no gap (G2)
    assert same or [records[name] for name in gone if records[name].is_open] == []


def test_reasons_of_the_ends_that_are_told() -> None:
    """What the whole way from line to record comes to."""
    story: list[tuple[Any, ...]] = []
    for how in ("left", "closed", "silent"):
        story += [("connect", "alice", False), ("login",), ("leave", how)]
    for is_2_1 in (False, True):
        _, bridge = play(story, is_2_1=is_2_1)
        assert [(r.reason, r.cause) for r in bridge.records().values()] == [
            (Reason.LOGOUT, "disconnect"),
            (Reason.LOST, "closed"),
            (Reason.LOST, "keepAlive"),
        ]
