"""The configuration of the bridge: values only."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mqtt_presence.adapters.port import Connected
from mqtt_presence.adapters.registry import AUTO
from mqtt_presence.bridge.link.config import RECEIVE_MAXIMUM, LinkConfig
from mqtt_presence.integrations.homeassistant import Discovery
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import RuleSettings

AMNESTY_S = 600.0
"""How long after a connect rates do not count: the messages of hours may have waited at the broker, and all
arrive within seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits on users; None: no limit.

    Args:
        records: new records of a user in a minute.
        rate: messages of a user in a second, as an average over a minute. Ends do not count.
        users: the number of users.
        amnesty_s: see `AMNESTY_S`.

    """

    records: int | None = None
    rate: int | None = None
    users: int | None = None
    amnesty_s: float = AMNESTY_S


@dataclass(frozen=True, slots=True)
class Tuning:
    """Figures inside the bridge, in seconds where named `_s`; only tests change them."""

    start_s: float = 30.0
    """How long to wait at the start while another process locks the database."""
    finish_s: float = 5.0
    """The longest time for the last publications at a clean stop."""
    settled_s: float = 2.0
    """After a connect: by then the broker has begun to send the messages that waited."""
    unmoved_s: float = 60.0
    """With `seat_inputs`, a seat that leaves stays subscribed until no message has come for so long."""
    announce_again_s: float = 10.0
    """How long to wait after the broker has refused an announcement."""
    republish_again_s: float = 10.0
    """How long to wait after the broker has refused a status; then twice as long each time."""
    max_batch: int = 4000
    """Messages of one batch, and messages that wait in the bridge."""
    max_backlog: int = 20_000
    """Publications that await the broker's acknowledgement before the bridge stops committing."""
    shifted_page: int = 1000
    """Connections of one step after the clock was set forward."""
    kept_packet_ids: int = RECEIVE_MAXIMUM
    """Messages whose packet ids are kept: as many as a broker may leave unacknowledged."""


@dataclass(frozen=True, slots=True)
class Implicit:
    """Implicit connections (rule I1).

    Args:
        mode: `implicit_identity.USERNAME` or `CLIENT_ID`.
        match: the whole client id must match it; None: any.
        after_s: how long a client has to log in, seconds.
        read_list: asks the broker for its connected clients, after reports were lost; None: it is not asked.
        asks_plugin: after reports were lost, ask mosquitto's dynamic-security plugin.

    """

    mode: str
    match: re.Pattern[str] | None = None
    after_s: float = 1.0
    read_list: Callable[[], Sequence[Connected]] | None = None
    asks_plugin: bool = False


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """The configuration of the bridge.

    Args:
        link: makes the configuration of the link from the client id that the database holds.
        topics: the topics under the prefix in use.
        rules: thresholds of the presence rules.
        limits: limits on users.
        confirm_within_ms: how long clients may take to answer `bridge/announce` (rule B3), milliseconds.
        retention_ms: how long ended connections are kept, milliseconds; None: for ever.
        publish_private: publish addresses and user agents with the status.
        homeassistant: publish a discovery message for each user; None: switched off.
        broker_starts_empty: the broker keeps no messages from one start to the next, as the embedded one.
        tuning: figures that only tests change.
        source: how the broker reports connections, one of `adapters.registry.SOURCES`.
        seats: the number of bridges that share the messages. With several, reports of connections are not
            read: one bridge would read them, and another one the client's login.
        implicit: count clients that send no messages; None: do not.

    """

    link: Callable[[str], LinkConfig]
    topics: Topics = field(default_factory=Topics)
    rules: RuleSettings = field(default_factory=RuleSettings)
    limits: Limits = field(default_factory=Limits)
    confirm_within_ms: int = 30_000
    retention_ms: int | None = None
    publish_private: bool = False
    broker_starts_empty: bool = False
    source: str = AUTO
    seats: int = 1
    homeassistant: Discovery | None = None
    implicit: Implicit | None = None
    tuning: Tuning = field(default_factory=Tuning)
