"""bridge.config."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mqtt_presence.adapters.registry import AUTO
from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import (
    RuleSettings,
)

AMNESTY_S = 600.0
"""How long after a connection with the broker was made rates do not count: what comes then has waited there,
the messages of hours in a few seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too much; None: nothing is.

    Args:
        records: new records of a user in a minute.
        rate: messages of a user in a second, as an average over a minute. Ends do not count.
        users: how many there may be.
        amnesty_s: see `AMNESTY_S`.

    """

    records: int | None = None
    rate: int | None = None
    users: int | None = None
    amnesty_s: float = AMNESTY_S


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """What the bridge must know.

    Args:
        link: makes the connection's configuration of the client id that the database keeps.
        topics: under which prefix.
        rules: thresholds.
        limits: what is too much from one user.
        confirm_within_ms: how long clients may take to answer `bridge/announce` (B3).
        retention_ms: how long ended connections are kept; None: for ever.
        publish_private: put addresses and user agents into the status.
        source: what tells of connections, see `witness.SOURCES`.

    """

    link: Callable[[str], LinkConfig]
    topics: Topics = field(default_factory=Topics)
    rules: RuleSettings = field(default_factory=RuleSettings)
    limits: Limits = field(default_factory=Limits)
    confirm_within_ms: int = 30_000
    retention_ms: int | None = None
    publish_private: bool = False
    source: str = AUTO
