"""Messages on their way, and the acknowledgements that are held back for them."""

from dataclasses import dataclass
from typing import Protocol

from mqtt_presence.access.rate_limited_log import quoted
from mqtt_presence.mqtt.framing import ProtocolError


class Publisher(Protocol):
    """Where a message came from, and where its acknowledgement goes."""

    def acknowledge(self, qos: int, packet_id: int) -> None:
        """Tell it that its message is taken care of."""


@dataclass(slots=True, eq=False)
class Message:
    """An application message (§1.2), the same one for everybody who gets it. Made by `new_message`.

    Args:
        topic: where it goes.
        levels: the topic, split at ``/``.
        payload: what it says.
        qos: 0 or 1.
        retain: it is to be kept for later subscribers.
        receipt: the acknowledgement that waits for it; None: nobody waits.
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
    """Make a message; delivery is at QoS 1 at most.

    Raises:
        ProtocolError: the topic is no topic name (§4.7.3).

    """
    if not topic or "+" in topic or "#" in topic:
        raise ProtocolError(f"topic name {quoted(topic)}")
    return Message(topic, tuple(topic.split("/")), payload, min(qos, 1), retain)


class Receipt:
    """An acknowledgement held back until every bridge session that got the message has acknowledged it.

    The bridge acknowledges after its commit, so the publisher's PUBACK means kept (contract section 5).

    Args:
        publisher: who is told then.
        qos: that of the message.
        packet_id: what the publisher calls it.

    """

    __slots__ = ("_packet_id", "_publisher", "_qos", "waiting")

    def __init__(self, publisher: Publisher, qos: int, packet_id: int) -> None:
        self._publisher = publisher
        self._qos = qos
        self._packet_id = packet_id
        self.waiting = 0

    def committed(self) -> None:
        """Take note that one of them has."""
        self.waiting -= 1
        if self.waiting == 0:
            self._publisher.acknowledge(self._qos, self._packet_id)


@dataclass(slots=True, eq=False)
class Delivery:
    """A message on its way to one client.

    Args:
        message: what it gets.
        qos: at which it gets it, 0 or 1.
        retain: it was kept, and a new subscription asked for it (§3.3.1.3).

    """

    message: Message
    qos: int
    retain: bool = False
