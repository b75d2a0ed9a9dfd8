"""The rules of a fleet: which topics it reads, how, and by which handler."""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from mqtt_presence.adapters.devices.payload_values import same_value
from mqtt_presence.adapters.devices.profile import MEANINGS, Availability
from mqtt_presence.adapters.devices.topic_patterns import Pattern
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.events import Event

NO_MATCH = "no_match"
SMALL = 64 * 1024
"""Bytes of a payload, except of lists and births."""

Events = list[Event]
Handler = Callable[["Match", Incoming, int], Events]


class FleetRule(Struct, frozen=True, eq=False):
    """A pattern of a fleet, and the handler of its messages."""

    pattern: Pattern
    qos: int
    handle: Handler
    words: Any = None
    """The words of the profile that the handler needs."""
    max_payload: int = SMALL
    is_parent: bool = False
    """Whether the topic shows whether a gateway is there."""


class Match(Struct, frozen=True, eq=False):
    """A topic that passes a rule."""

    rule: FleetRule
    names: Mapping[str, str]
    is_parent: bool
    """Whether the topic is that of a gateway."""


def meaning_of(entry: Availability, value: Any) -> str | None:
    """Return the meaning of a value by one entry of a profile; None if it has none."""
    if value is None:
        return None
    for meaning in MEANINGS:
        if any(same_value(value, one) for one in getattr(entry, meaning)):
            return meaning
    return None
