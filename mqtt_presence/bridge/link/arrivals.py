"""Arrivals: everything that one poll of the link brought, and the collector that receives it."""

from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from mqtt_presence.mqtt.messages import Incoming, Outgoing


@dataclass(slots=True)
class Arrivals:
    """The result of `Link.poll`."""

    messages: list[Incoming] = field(default_factory=list)
    cut_short: bool = False
    """Reading stopped at a number of bytes: more may wait."""
    delivered: list[Any] = field(default_factory=list)
    """The tickets of acknowledged publications, in the broker's order."""
    unsent: list[Outgoing] = field(default_factory=list)
    """Publications that stay unsent: receivers may close the connection on the topic (MQTT 3.1.1 §1.5.3)."""
    refused: list[Outgoing] = field(default_factory=list)
    """Publications that the broker has acknowledged with a failure (MQTT 5 §3.4.2.1)."""
    connected: bool = False
    """A connection was made, before anything in `messages`."""
    session_present: bool = False
    contested: bool = False
    """The connection before was short: another bridge may have published newer statuses meanwhile."""
    subscribed: list[str] = field(default_factory=list)
    """The topic filters that the broker has granted."""
    unsubscribed: list[str] = field(default_factory=list)
    """The topic filters that the broker has confirmed not to be subscribed any longer."""


class Collector:
    """Collects the arrivals between two polls."""

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.is_connected = False
        """Whether the broker has accepted the connection; before that it is a probe."""
        self.epoch = 0
        """The number of the connection."""

    def take(self) -> Arrivals:
        """Return the arrivals, and begin to collect anew."""
        arrivals, self.arrivals = self.arrivals, Arrivals()
        return arrivals

    def receive_publish(self, flags: int, topic: bytes, payload: bytes, mid: int) -> None:
        """Add a message; see `batch_client.OnPublish`."""
        if not self.is_connected:
            return  # the broker sends the message again over the next connection
        try:
            name = topic.decode()
        except UnicodeDecodeError:
            name = ""  # a broker should not forward it (MQTT 3.1.1 §1.5.3); no valid topic is empty
        self.arrivals.messages.append(
            Incoming(name, payload, flags >> 1 & 3, flags & 1 != 0, flags & 8 != 0, mid, self.epoch)
        )

    def receive_large(self, flags: int, topic: bytes, size: int, mid: int) -> None:
        """Add a message without its payload; see `batch_client.OnLarge`."""
        if self.is_connected:
            self.receive_publish(flags, topic, b"", mid)
            messages = self.arrivals.messages
            messages[-1] = replace(messages[-1], oversize=size)
