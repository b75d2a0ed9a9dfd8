"""The adapter of device profiles: finds the fleet that a topic belongs to, and lets it read the message."""

from collections.abc import Iterable, Mapping, Sequence

from mqtt_presence.adapters.devices.fleet import Fleet
from mqtt_presence.adapters.devices.fleet_rules import FleetRule, Match
from mqtt_presence.adapters.devices.homie5 import Homie5Fleet
from mqtt_presence.adapters.devices.profile import Profile
from mqtt_presence.adapters.devices.sparkplug import SparkplugFleet
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.mqtt.topic_filters import matches
from mqtt_presence.mqtt.topic_tree import TopicTree
from mqtt_presence.rules.events import Event, Sighting
from mqtt_presence.rules.model import Connection

_FLEETS = {"words": Fleet, "homie5": Homie5Fleet, "sparkplug": SparkplugFleet}
_MAX_TOPICS = 100_000
"""Topics whose fleet is remembered."""
_MAX_REMEMBERED = 512
"""Characters of such a topic: a topic may have 65,535 bytes, and then names no device."""
_HEADER = 1024
"""Bytes of an MQTT packet beside the payload: the topic, and properties that a broker adds."""


class DeviceAdapter:
    """Reads the topics of all profiles in use; see `adapters.port.Fleets`.

    Args:
        profiles: checked; no two read the same topic, but those that yield.

    """

    def __init__(self, profiles: Sequence[Profile]) -> None:
        self.fleets: list[Fleet] = [_FLEETS[profile.words.decoder](profile) for profile in profiles]
        self.fleets.sort(key=lambda fleet: fleet.profile.words.yields)
        # Each filter with its rules, and with the place of their fleet: an earlier fleet comes first.
        self._rules: TopicTree[list[tuple[int, FleetRule]]] = TopicTree()
        qos: dict[tuple[str, ...], int] = {}
        for number, fleet in enumerate(self.fleets):
            for rule in fleet.rules:
                self._add(number, rule)
                qos[rule.pattern.levels] = max(rule.qos, qos.get(rule.pattern.levels, 0))
        self._qos = {"/".join(levels): of_filter for levels, of_filter in _widest(qos).items()}
        self._found: dict[str, tuple[Match, ...]] = {}

    def _add(self, fleet_number: int, rule: FleetRule) -> None:
        levels = rule.pattern.levels
        known = self._rules.get(levels)
        if known is None:
            known = []
            self._rules.put(levels, known)
        known.append((fleet_number, rule))

    @property
    def filters(self) -> Sequence[str]:
        """See `Adapter`."""
        return list(self._qos)

    @property
    def qos(self) -> Mapping[str, int]:
        """See `Fleets`."""
        return self._qos

    @property
    def max_packet(self) -> int:
        """See `Fleets`."""
        return max((r.max_payload for f in self.fleets for r in f.rules), default=0) + _HEADER

    @property
    def origins(self) -> Sequence[str]:
        """See `Fleets`."""
        return [fleet.profile.origin for fleet in self.fleets]

    @property
    def reconnecting(self) -> frozenset[str]:
        """See `Fleets`."""
        return frozenset(f.profile.origin for f in self.fleets if f.profile.words.reconnects)

    def restore(self, records: Iterable[Connection]) -> None:
        """See `Fleets`."""
        records = list(records)
        for fleet in self.fleets:
            fleet.restore(records)

    def connected(self) -> None:
        """See `Fleets`."""
        for fleet in self.fleets:
            fleet.retained_there.clear()

    def seen_retained(self, now: int) -> Iterable[Sighting]:
        """See `Fleets`."""
        devices = [device for fleet in self.fleets for device in fleet.retained_there.values()]
        return [device.sighting(now) for device in devices if device.is_open]

    def reads(self, topic: str) -> bool:
        """Return whether a profile reads a topic."""
        return bool(self._found.get(topic) or self._find(topic))

    def read(self, message: Incoming, now: int) -> Iterable[Event]:
        """See `Adapter`."""
        matches = self._found.get(message.topic)
        if matches is None:
            matches = self._find(message.topic)
        if not matches:
            return ()
        return [event for match in matches for event in match.rule.handle(match, message, now)]

    def _find(self, topic: str) -> tuple[Match, ...]:
        levels = topic.split("/")
        passed = [pair for pairs in self._rules.matching_filters(levels) for pair in pairs]
        found: tuple[Match, ...] = ()
        for number in sorted({number for number, _ in passed}):
            rules = [rule for of_fleet, rule in passed if of_fleet == number]
            found = tuple(self.fleets[number].matches(rules, levels))
            if found:
                break
        if len(topic) <= _MAX_REMEMBERED:
            if len(self._found) >= _MAX_TOPICS:
                self._found.clear()
            self._found[topic] = found
        return found


def _widest(qos: Mapping[tuple[str, ...], int]) -> dict[tuple[str, ...], int]:
    """Return the filters, and the QoS of each, without those that another one covers.

    mosquitto sends a message once for each subscription that it matches, and a birth would count twice.
    """
    widest: dict[tuple[str, ...], int] = {}
    for levels in sorted(qos, key=lambda of_filter: -of_filter.count("+")):
        covering = next((wide for wide in widest if _covers(wide, levels)), levels)
        widest[covering] = max(qos[levels], widest.get(covering, 0))
    return widest


def _covers(wide: Sequence[str], levels: Sequence[str]) -> bool:
    is_hidden = levels[0].startswith("$") and wide[0] != levels[0]  # MQTT 3.1.1 §4.7.2
    return matches(wide, levels) and not is_hidden
