"""A broker in memory whose bytes a test moves by hand: sessions, shares, retained messages, connections."""

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from mqtt_presence.bridge.link.acknowledgements import Publications, tickets
from mqtt_presence.bridge.link.arrivals import Arrivals
from mqtt_presence.mqtt.messages import Incoming, Outgoing
from mqtt_presence.mqtt.topic_filters import matches

FIRST_ID = 65_500
"""The packet ids soon begin again at 1."""


class Packet(NamedTuple):
    kind: str
    topic: str = ""
    payload: bytes = b""
    retain: bool = False
    mid: int = 0
    dup: bool = False


class Connection:
    """The bytes on their way in both directions, each direction in order."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.up: deque[Packet] = deque([Packet("connect")])
        self.down: deque[Packet] = deque()
        self.is_open = True
        """Whether the broker still reads from it."""


class Session:
    """What the broker keeps of one client."""

    def __init__(self) -> None:
        self.filters: list[str] = []
        self.unacknowledged: dict[int, Packet] = {}
        self.queue: deque[Packet] = deque()
        self.connection: Connection | None = None
        self._mid = FIRST_ID

    def add(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.queue.append(Packet("publish", topic, payload, retain))
        self.send()

    def send(self) -> None:
        """Send what waits, if the client is there."""
        while self.connection is not None and self.queue:
            self._mid = self._mid % 65_535 + 1
            packet = self.queue.popleft()._replace(mid=self._mid)
            self.unacknowledged[packet.mid] = packet
            self.connection.down.append(packet)

    def connected(self, connection: Connection) -> None:
        """Begin a connection: what was not acknowledged comes again under the same ids, then the rest."""
        self.connection = connection
        for mid, packet in self.unacknowledged.items():
            self.unacknowledged[mid] = packet._replace(dup=True)
            connection.down.append(self.unacknowledged[mid])
        self.send()


class ModelBroker:
    """Handles one packet after another, of the connections that a test names."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.connections: list[Connection] = []
        self.retained: dict[str, bytes] = {}
        self.statuses: list[tuple[str, bytes]] = []
        """Every retained message in the order of arrival."""
        self._groups: dict[str, tuple[str, list[Session]]] = {}

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is on its way."""
        return not any(c.up or (c.down and c.is_open) for c in self.connections) and not any(
            s.queue or s.unacknowledged for s in self.sessions.values()
        )

    def connect(self, client_id: str) -> Connection:
        """Begin a connection: its first packet is on its way."""
        connection = Connection(client_id)
        self.connections.append(connection)
        return connection

    def read(self, connection: Connection, packets: int) -> None:
        """Handle the next packets of a connection."""
        for _ in range(packets):
            if not connection.up:
                break
            self._handle(connection, connection.up.popleft())
        if not connection.is_open and not connection.down:
            self.connections = [c for c in self.connections if c is not connection]

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hand a message out: to each session that subscribed, and to one of each group, in turn."""
        if retain:
            self.statuses.append((topic, payload))
            self.retained[topic] = payload
            if not payload:
                del self.retained[topic]
        for session in self.sessions.values():
            for topic_filter in session.filters:
                if not topic_filter.startswith("$share/") and _matches(topic_filter, topic):
                    session.add(topic, payload)
        for topic_filter, members in self._groups.values():
            if members and _matches(topic_filter, topic):
                members.append(members.pop(0))
                members[-1].add(topic, payload)

    def _handle(self, connection: Connection, packet: Packet) -> None:
        session = self.sessions.get(connection.client_id)
        if packet.kind == "connect":
            had_session = session is not None
            session = self.sessions.setdefault(connection.client_id, Session())
            if session.connection is not None:
                self._end(session.connection, "taken over")
            connection.down.append(Packet("connack", retain=had_session))
            session.connected(connection)
            return
        if session is None:  # it has ended, and the connection with it
            return
        match packet.kind:
            case "publish":
                self.publish(packet.topic, packet.payload, retain=packet.retain)
                connection.down.append(Packet("puback", mid=packet.mid))
            case "puback":
                session.unacknowledged.pop(packet.mid, None)
            case "subscribe":
                self._subscribe(session, packet.topic)
                connection.down.append(Packet("suback", packet.topic))
                for topic, payload in self.retained.items():
                    if _matches(packet.topic, topic):
                        session.add(topic, payload, retain=True)
            case "unsubscribe":
                session.filters = [f for f in session.filters if f != packet.topic]
                for _, members in self._groups.values():
                    if packet.topic.startswith("$share/") and session in members:
                        members.remove(session)
                connection.down.append(Packet("unsuback", packet.topic))
            case "end":
                self._end(connection, "closed")
                if session.connection is connection:
                    session.connection = None

    def _subscribe(self, session: Session, topic_filter: str) -> None:
        if topic_filter not in session.filters:
            session.filters.append(topic_filter)
        if topic_filter.startswith("$share/"):
            _, group, shared = topic_filter.split("/", 2)
            _, members = self._groups.setdefault(group, (shared, []))
            if session not in members:
                members.append(session)

    def forget(self, client_id: str) -> None:
        """End a session, as a connection with a clean session does."""
        session = self.sessions.pop(client_id, None)
        if session is None:
            return
        if session.connection is not None:
            self._end(session.connection, "taken over")
        for _, members in self._groups.values():
            if session in members:
                members.remove(session)

    def _end(self, connection: Connection, why: str) -> None:
        """End a connection: what the broker has not read of it is lost."""
        connection.up.clear()
        connection.down.append(Packet("close", why))
        connection.is_open = False


def _matches(topic_filter: str, topic: str) -> bool:
    return not topic_filter.startswith("$share/") and matches(topic_filter.split("/"), topic.split("/"))


class ModelLink:
    """The link of a bridge to a `ModelBroker`: sends again over the next connection what was not answered."""

    is_mqtt5 = True
    receive_window = 20_000

    def __init__(self, broker: ModelBroker, client_id: str) -> None:
        self._broker = broker
        self._client_id = client_id
        self._publications = Publications()
        self._epoch = self._mid = 0
        self._is_new = False
        self.connection: Connection | None = None
        self.is_connected = False
        self.was_taken_over = False
        self.connections = 0

    @property
    def backlog(self) -> int:
        return len(self._publications)

    def poll(self, _timeout_s: float, at_most: int, *, may_connect: bool = True) -> Arrivals:
        """Read what has arrived, up to `at_most` messages; connect if there is no connection."""
        arrivals = Arrivals()
        self._is_new = False
        if self.connection is None:
            if may_connect:
                self.connection = self._broker.connect(self._client_id)
                self.connections += 1
            return arrivals
        down = self.connection.down
        while down and len(arrivals.messages) < at_most:
            self._receive(down.popleft(), arrivals)
        if not self._is_new:
            self._send_waiting()
        return arrivals

    def _receive(self, packet: Packet, arrivals: Arrivals) -> None:
        match packet.kind:
            case "connack":
                self._publications.connected(20_000)
                self._epoch += 1
                self.is_connected = arrivals.connected = self._is_new = True
                arrivals.session_present = packet.retain
            case "publish":
                arrivals.messages.append(
                    Incoming(
                        packet.topic, packet.payload, 1, packet.retain, packet.dup, packet.mid, self._epoch
                    )
                )
            case "puback":
                message = self._publications.in_flight.pop(packet.mid, None)
                arrivals.delivered += [] if message is None else tickets(message)
            case "suback":
                arrivals.subscribed.append(packet.topic)
            case "unsuback":
                arrivals.unsubscribed.append(packet.topic)
            case "close":
                self.was_taken_over = packet.topic == "taken over"
                self.connection, self.is_connected = None, False
                self._publications.disconnected()

    def _write(self, packet: Packet) -> None:
        if self.connection is not None and self.connection.is_open:
            self.connection.up.append(packet)

    def queue_publish(self, topic: str, payload: bytes, *, retain: bool) -> int:
        """See `BatchClient`."""
        self._mid += 1
        self._write(Packet("publish", topic, payload, retain, self._mid))
        return self._mid

    def _send_waiting(self) -> None:
        if self.is_connected and not self._is_new:
            self._publications.send(self)  # type: ignore[arg-type]

    def publish(self, messages: Iterable[Outgoing]) -> None:
        for message in messages:
            self._publications.add(message)
        self._send_waiting()

    def publish_ahead(self, message: Outgoing) -> None:
        if self.is_connected:
            self._publications.send_at_once(self, message)  # type: ignore[arg-type]

    def ack(self, messages: Iterable[Incoming]) -> None:
        for message in messages:
            if message.qos and self.is_connected and message.epoch == self._epoch:
                self._write(Packet("puback", mid=message.mid))

    def subscribe(self, topic_filter: str, _qos: int = 1, *, required: bool = True) -> None:
        self._write(Packet("subscribe", topic_filter))

    def unsubscribe(self, topic_filter: str) -> None:
        self._write(Packet("unsubscribe", topic_filter))

    def end_session(self) -> bool:
        self.close()
        self._broker.forget(self._client_id)
        return True

    def close(self) -> None:
        """Close the socket: what was written may still arrive, and then the end."""
        self._write(Packet("end"))
        self.connection, self.is_connected = None, False

    def nothing(self, *_: Any, **__: Any) -> None:
        pass

    flush = send_now = wake = disconnect = nothing
