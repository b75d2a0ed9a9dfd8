"""Arrivals: everything that one poll of the link brought."""

from dataclasses import dataclass, field
from typing import Any

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
