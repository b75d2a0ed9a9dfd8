"""Brokers that close the connection: on who subscribes to what they do not grant, or in the middle of something."""

import json
import socket
import threading
from contextlib import suppress
from typing import Self

import pytest

from mqtt_presence.bridge.link import acknowledgements
from mqtt_presence.bridge.part import Due
from mqtt_presence.mqtt.framing import Framer, Kind, Packet
from mqtt_presence.mqtt.packets import (
    PINGRESP,
    PUBACK,
    connack_packet,
    id_packet,
    publish_packet,
    read_connect,
    read_publish,
    read_subscribe,
    suback_packet,
)
from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store
from tests.support.bridges import BridgeThread, tuned
from tests.support.waiting import until


class ClosingBroker:
    """Just enough of MQTT 5 to keep a bridge connected, for as long as it does not ask for `$SYS/`.

    Args:
        answers: it grants everything and closes nothing.
        away: so many connections are closed before a word, as by a proxy whose broker is away.

    """

    def __init__(self, *, answers: bool = False, away: int = 0) -> None:
        self._answers = answers
        self.away = away
        self.versions: list[int] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.connects = 0
        self.closed = 0
        self.goodbyes = 0
        """Connections that ended with a DISCONNECT: a broker publishes no will for those."""
        self.filters: list[list[str]] = []
        self.acknowledges = True
        self.neglects: str | None = None
        """What begins so is not acknowledged."""
        self.refuses = 0
        """The reason code of all acknowledgements."""
        self.published: list[list[tuple[str, bytes]]] = []
        """Topics and payloads by connection, acknowledged or not."""
        self._connection: socket.socket | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, name="closing broker", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def deliver(self, topic: str, payload: bytes = b"") -> None:
        """Send the bridge a message, QoS 0."""
        assert self._connection is not None
        self._connection.sendall(publish_packet(topic, payload, properties=b""))

    def cut(self) -> None:
        """Break the connection that there is."""
        if self._connection is not None:
            with suppress(OSError):  # it is over already
                self._connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                self._connection, _ = self._server.accept()
            except OSError:
                return
            self.filters.append([])
            self.published.append([])
            with self._connection:
                try:
                    self._talk(self._connection)
                except OSError:
                    continue

    def _talk(self, connection: socket.socket) -> None:
        framer = Framer()
        while data := connection.recv(65_536):
            for packet in framer.feed(data):
                if not self._answer(connection, packet):
                    return

    def _answer(self, connection: socket.socket, packet: Packet) -> bool:
        """Answer a packet; False closes the connection."""
        kind, flags, body = packet
        match kind:
            case Kind.CONNECT:
                self.versions.append(read_connect(body).level)
                if self.away:
                    self.away -= 1
                    return False
                self.connects += 1
                connection.sendall(connack_packet(0, properties=b""))
            case Kind.SUBSCRIBE:
                packet_id, filters, _ = read_subscribe(body, mqtt5=True)
                name = filters[0][0]
                self.filters[-1].append(name)
                if name.startswith("$SYS/") and not self._answers:
                    self.closed += 1
                    return False
                connection.sendall(suback_packet(packet_id, b"\x01", properties=b""))
            case Kind.PINGREQ:
                connection.sendall(PINGRESP)
            case Kind.DISCONNECT:
                self.goodbyes += 1
            case Kind.PUBLISH:
                message = read_publish(flags, body, mqtt5=True)
                self.published[-1].append((message.topic, message.payload))
                is_neglected = self.neglects is not None and message.topic.startswith(self.neglects)
                if self.acknowledges and not is_neglected:
                    connection.sendall(id_packet(PUBACK, message.packet_id, reason_code=self.refuses))
        return True


@pytest.mark.parametrize("source", ["auto", "mosquitto", "emqx"])
def test_broker_that_closes_on_sys_is_asked_once(sqlite_url: str, source: str) -> None:
    """It closes once; the next connection goes without and stays. And so does the one after it."""
    with ClosingBroker() as broker:
        url = f"mqtt://bridge@127.0.0.1:{broker.port}"
        with BridgeThread(broker=url, database=sqlite_url, source=source):
            until(
                lambda: broker.connects == 2 and "presence/+/+/+" in broker.filters[-1], "a second connection"
            )
            broker.cut()
            until(lambda: broker.connects == 3 and "presence/+/+/+" in broker.filters[-1], "a third one")
        assert broker.closed == 1
        assert not any(name.startswith("$SYS/") for filters in broker.filters[1:] for name in filters)


def test_without_a_source_nothing_is_asked_for(sqlite_url: str) -> None:
    """`source = "none"` believes nothing that is under `$SYS/`: where clients may write there, anybody could say it."""
    with ClosingBroker(answers=True) as broker:
        url = f"mqtt://bridge@127.0.0.1:{broker.port}"
        with BridgeThread(broker=url, database=sqlite_url, source="none"):
            until(lambda: "presence/+/+/+" in broker.filters[0], "the bridge is subscribed")
        assert not any(name.startswith("$SYS/") for name in broker.filters[0])


def test_broker_that_grants_is_asked_each_time(sqlite_url: str) -> None:
    """A connection that breaks for other reasons does not count."""
    with ClosingBroker(answers=True) as broker:
        url = f"mqtt://bridge@127.0.0.1:{broker.port}"
        with BridgeThread(broker=url, database=sqlite_url):
            until(lambda: "$SYS/broker/log/E" in broker.filters[0], "all is subscribed")
            broker.cut()
            until(lambda: broker.connects == 2, "a second connection")
            until(lambda: "$SYS/broker/log/E" in broker.filters[1], "all is subscribed again")


def test_a_proxy_whose_broker_is_away_does_not_cost_mqtt_5(sqlite_url: str) -> None:
    """A connection that is closed before an answer leaves the version in doubt at the start, and never later."""
    with ClosingBroker(answers=True, away=4) as broker:
        url = f"mqtt://bridge@127.0.0.1:{broker.port}"
        with BridgeThread(broker=url, database=sqlite_url) as bridge:
            assert broker.versions == [5, 4, 5, 4, 5]
            broker.away = 2
            broker.cut()
            until(lambda: broker.connects == 2, "the bridge is back")
            assert broker.versions[5:] == [5, 5, 5]
            assert bridge.links[-1].is_mqtt5


def test_birth_is_not_sent_again_over_the_next_connection(sqlite_url: str) -> None:
    """A birth that was not acknowledged would come behind the next one, and be retained although it is older."""

    def is_announced(connection: int) -> bool:  # after the births
        heard = broker.published[connection:]
        return bool(heard) and "bridge/announce" in [topic for topic, _ in heard[0]]

    with ClosingBroker(answers=True) as broker:
        broker.acknowledges = False
        url = f"mqtt://bridge@127.0.0.1:{broker.port}"
        with BridgeThread(broker=url, database=sqlite_url):
            until(lambda: is_announced(0), "what is not acknowledged")
            broker.acknowledges = True
            broker.cut()
            until(lambda: is_announced(1), "the same over the next connection")
        births = [
            [
                json.loads(payload)["version"]
                for topic, payload in connection
                if topic == "bridge/state" and b"online" in payload
            ]
            for connection in broker.published
        ]
        assert [len(versions) for versions in births] == [1, 1]
        assert births[1] > births[0]


@pytest.mark.parametrize("acknowledges", [True, False])
def test_bridge_leaves_its_farewell_to_the_will_where_the_broker_does_not_come_to_it(
    sqlite_url: str, acknowledges: bool
) -> None:
    """Behind a backlog it may never be heard: after a DISCONNECT the broker would say "online" for ever."""
    with ClosingBroker(answers=True) as broker:
        broker.acknowledges = acknowledges
        url = f"mqtt://bridge@127.0.0.1:{broker.port}"
        with BridgeThread(
            configure=tuned(finish_s=20.0 if acknowledges else 0.2), broker=url, database=sqlite_url
        ):
            until(lambda: "bridge/announce" in dict(broker.published[0]), "what is to be acknowledged")
            connection = broker._connection
            assert connection is not None
        until(lambda: connection.fileno() < 0, "the bridge has left")
        assert broker.goodbyes == acknowledges


def test_refused_statuses_are_published_again(sqlite_url: str) -> None:
    """A quota that was full, a right that was missing for a while: the retained value converges all the same."""
    with ClosingBroker(answers=True) as broker:

        def statuses() -> list[int]:
            told = [payload for topic, payload in broker.published[0] if topic == "status/alice"]
            return [json.loads(payload)["version"] for payload in told]

        url = f"mqtt://bridge@127.0.0.1:{broker.port}"
        with BridgeThread(configure=tuned(republish_again_s=0.1), broker=url, database=sqlite_url):
            broker.refuses = 0x97
            broker.deliver("presence/alice/phone/login")
            until(lambda: len(statuses()) > 2, "it is tried again")
            broker.refuses = 0
            count = len(statuses())
            until(lambda: len(statuses()) > count, "it is tried once more")
            assert set(statuses()) == {1}


def test_a_refused_status_is_remembered_over_a_restart(sqlite_url: str) -> None:
    """The bridge that starts next publishes all again at once."""
    with ClosingBroker(answers=True) as broker:
        url = f"mqtt://bridge@127.0.0.1:{broker.port}"
        broker.refuses = 0x97
        with BridgeThread(broker=url, database=sqlite_url):
            broker.deliver("presence/alice/phone/login")
            until(lambda: "status/alice" in dict(broker.published[0]), "the status")
        broker.refuses = 0
        with BridgeThread(broker=url, database=sqlite_url):
            until(lambda: "status/alice" in dict(broker.published[1]), "the status again", 5)


def test_who_is_forgotten_is_buried_while_others_come_and_go(sqlite_url: str) -> None:
    """A busy bridge, a broker that is some milliseconds away: something is always on its way. It is said once."""
    with ClosingBroker(answers=True) as broker:
        url = f"mqtt://bridge@127.0.0.1:{broker.port}"
        with BridgeThread(broker=url, database=sqlite_url) as house:
            broker.deliver("presence/alice/phone/login")
            until(lambda: "status/alice" in dict(broker.published[0]), "the status")
            broker.neglects = "status/bob"
            broker.deliver("presence/bob/phone/login")
            until(lambda: "status/bob" in dict(broker.published[0]), "what is on its way")
            broker.neglects = "status/"
            store = Store(sqlite_url)
            with store.transaction() as tx:
                tx.forget(UserId("alice"))
            until(lambda: ("status/alice", b"") in broker.published[0], "it is cleared", 5)
            for _ in range(3):
                looked_at = house.parts.progress.until
                house.bridge.request(Due.CHECK)
                until(lambda before=looked_at: house.parts.progress.until > before, "it is looked at again")
            assert broker.published[0].count(("status/alice", b"")) == 1
            broker.neglects = None
            broker.cut()

            def is_buried() -> bool:
                with store.transaction() as tx:
                    return not tx.uncleared()

            until(is_buried, "it is taken")
            store.close()


def test_who_is_forgotten_is_not_buried_while_the_broker_refuses(sqlite_url: str) -> None:
    """The retained status is there for as long as the broker has not taken the empty one."""
    with ClosingBroker(answers=True) as broker:
        url = f"mqtt://bridge@127.0.0.1:{broker.port}"
        with BridgeThread(broker=url, database=sqlite_url):
            broker.deliver("presence/alice/phone/login")
            until(lambda: "status/alice" in dict(broker.published[0]), "the status")
            broker.refuses = 0x87
            store = Store(sqlite_url)
            with store.transaction() as tx:
                tx.forget(UserId("alice"))
            until(lambda: broker.published[0].count(("status/alice", b"")) > 1, "it is tried again")
            with store.transaction() as tx:
                assert tx.uncleared() == ["alice"]
            broker.refuses = 0

            def is_buried() -> bool:
                with store.transaction() as tx:
                    return not tx.uncleared()

            until(is_buried, "it is taken")
            store.close()


def test_what_the_broker_has_not_taken_is_published_over_another_connection(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers pings, acknowledges the rest, and has lost one status: it would be wrong, and the outbox grow, for ever."""
    monkeypatch.setattr(acknowledgements, "_TIMEOUT_S", 0.5)
    with ClosingBroker(answers=True) as broker:
        url = f"mqtt://bridge@127.0.0.1:{broker.port}"

        def has(topic: str) -> list[bool]:
            """Tell on which connections it was published."""
            return [topic in dict(published) for published in broker.published]

        broker.neglects = "status/alice"
        with BridgeThread(broker=url, database=sqlite_url):
            broker.deliver("presence/alice/phone/login")
            until(lambda: sum(has("status/alice")) == 3, "the status, again and again")
            assert broker.goodbyes == 0, "should the bridge end meanwhile, its will says so"
            broker.neglects = None
            until(lambda: not _outbox(sqlite_url), "it is taken")


def _outbox(url: str) -> list[tuple[int, bytes]]:
    store = Store(url)
    with store.transaction() as tx:
        left = tx.outbox()
    store.close()
    return left


@pytest.mark.parametrize("refuses", [None, 0x97], ids=["not acknowledged", "refused"])
def test_nobody_is_silent_while_the_broker_has_not_taken_the_question(
    sqlite_url: str, refuses: int | None
) -> None:
    """Clients that were not asked cannot answer (rule B3): their time begins when the broker has the announcement."""
    quick = tuned(settled_s=0.0, announce_again_s=0.3)
    with ClosingBroker(answers=True) as broker:

        def statuses() -> list[bool]:
            return [
                json.loads(payload)["online"]
                for connection in broker.published
                for topic, payload in connection
                if topic == "status/alice"
            ]

        url = f"mqtt://bridge@127.0.0.1:{broker.port}"
        with BridgeThread(configure=quick, broker=url, database=sqlite_url, confirm_within="0.2s"):
            broker.deliver("presence/alice/phone/login", b'{"connectionId":"c1","announce":true}')
            until(lambda: statuses() == [True], "the status")
        broker.acknowledges, broker.refuses = refuses is not None, refuses or 0
        with BridgeThread(configure=quick, broker=url, database=sqlite_url, confirm_within="0.2s") as house:
            until(lambda: "bridge/announce" in dict(broker.published[1]), "the question")
            asked_at = wall_clock()
            until(lambda: house.parts.progress.until > asked_at + 1_000, "silence")
            house.bridge.request(Due.CHECK)
            until(lambda: house.parts.progress.until > asked_at + 1_500, "and a look at it")
            assert False not in statuses()
            broker.acknowledges, broker.refuses = True, 0
            if refuses is None:
                broker.cut()
            until(lambda: False in statuses(), "who does not answer is gone")
