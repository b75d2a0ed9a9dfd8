"""Messages on their way through the broker, and the acknowledgements that are held back for them."""

from dataclasses import dataclass
from typing import Protocol

from mqtt_presence.access.rate_limited_log import quoted
from mqtt_presence.mqtt.framing import ProtocolError


class Publisher(Protocol):
    """The sender of a message, to which the acknowledgement goes."""

    def acknowledge(self, qos: int, packet_id: int) -> None:
        """Acknowledge a message of this QoS and packet id."""


@dataclass(slots=True, eq=False)
class Message:
    """An application message (§1.2), one object for all of its receivers; `new_message` makes it.

    Args:
        topic: its topic name.
        levels: the topic, split at ``/``.
        payload: its payload.
        qos: 0 or 1.
        retain: the broker keeps it for later subscriptions.
        receipt: the acknowledgement that waits for the bridge; None: there is none.
        sender: the user who published it; None: the bridge, a will, or the broker itself.

    """

    topic: str
    levels: tuple[str, ...]
    payload: bytes
    qos: int
    retain: bool = False
    receipt: "Receipt | None" = None
    sender: str | None = None


def new_message(topic: str, payload: bytes, qos: int, *, retain: bool = False) -> Message:
    """Make a message; QoS 2 becomes QoS 1, the highest that the broker delivers.

    Raises:
        ProtocolError: the topic is no topic name (§4.7.3).

    """
    if not topic or "+" in topic or "#" in topic:
        raise ProtocolError(f"topic name {quoted(topic)}")
    return Message(topic, tuple(topic.split("/")), payload, min(qos, 1), retain)


class Receipt:
    """An acknowledgement held back until every bridge session that got the message has acknowledged it.

    The bridge acknowledges after its commit, so a publisher's PUBACK means that the database has the effect
    (docs/embedded.md, "Promises").

    Args:
        publisher: receives the acknowledgement.
        qos: of the message.
        packet_id: the publisher's packet id of the message.

    """

    __slots__ = ("_packet_id", "_publisher", "_qos", "waiting")

    def __init__(self, publisher: Publisher, qos: int, packet_id: int) -> None:
        self._publisher = publisher
        self._qos = qos
        self._packet_id = packet_id
        self.waiting = 0
        """Bridge sessions that have not acknowledged the message."""

    def release(self) -> None:
        """Acknowledge the message unless a bridge session has to do so."""
        if self.waiting == 0:
            self._publisher.acknowledge(self._qos, self._packet_id)

    def committed(self) -> None:
        """Record that one bridge session has acknowledged the message."""
        self.waiting -= 1
        if self.waiting == 0:
            self._publisher.acknowledge(self._qos, self._packet_id)


@dataclass(slots=True, eq=False)
class Delivery:
    """A message on its way to one client.

    Args:
        message: the message.
        qos: of this delivery, 0 or 1.
        retain: a retained message, delivered for a new subscription (§3.3.1.3).

    """

    message: Message
    qos: int
    retain: bool = False
