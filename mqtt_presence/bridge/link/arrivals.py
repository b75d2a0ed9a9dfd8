"""bridge.link.arrivals."""

from dataclasses import dataclass, field
from typing import Any

from mqtt_presence.mqtt.messages import Incoming, Outgoing


@dataclass(slots=True)
class Arrivals:
    """What a `Link.poll` brought."""

    messages: list[Incoming] = field(default_factory=list)
    cut_short: bool = False
    """It was so many bytes that reading has stopped: there may be more."""
    delivered: list[Any] = field(default_factory=list)
    """The tickets of what the broker has acknowledged, in its order."""
    unsent: list[Outgoing] = field(default_factory=list)
    """What is not published, because receivers may close the connection on its topic (MQTT 3.1.1 §1.5.3)."""
    refused: list[Outgoing] = field(default_factory=list)
    """What it has acknowledged with a reason why it has not taken it (MQTT 5 §3.4.2.1)."""
    connected: bool = False
    """A connection was made: before anything in `messages`."""
    session_present: bool = False
    contested: bool = False
    """The one before did not last: perhaps another bridge has spoken meanwhile, and what we say is old."""
    subscribed: list[str] = field(default_factory=list)
    """The topic filters that the broker has granted."""
