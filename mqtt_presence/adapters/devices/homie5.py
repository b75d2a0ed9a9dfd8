"""Homie 5: a device's description names its root; while the root is lost, so are its children."""

from collections.abc import Iterable

from mqtt_presence.adapters.devices.device import Device
from mqtt_presence.adapters.devices.fleet import Fleet
from mqtt_presence.adapters.devices.fleet_rules import Events, FleetRule, Match
from mqtt_presence.adapters.devices.payload_values import decode_json, look_up
from mqtt_presence.mqtt.messages import Incoming

_STATE = "$state"
_DESCRIPTION = "$description"
_MAX_DESCRIPTION = 256 * 1024
_MAX_NAME = 100


class Homie5Fleet(Fleet):
    """The devices of one domain, with their roots.

    The will is on the topic of the root alone (Homie 5.0, "Last Will"): after it, the topics of the children
    still have `ready`.
    """

    def _rules(self) -> Iterable[FleetRule]:
        yield from super()._rules()
        for entry in self.profile.words.availability:
            if entry.topic.endswith("/" + _STATE):
                topic = entry.topic.removesuffix(_STATE) + _DESCRIPTION
                yield from self._of(topic, 1, self._on_description, max_payload=_MAX_DESCRIPTION)

    def _on_description(self, match: Match, message: Incoming, now: int) -> Events:
        self._require_small(match, message)
        description = decode_json(message.payload)
        device = self.device(match.names)
        events: Events = []
        name, root = look_up(description, "name"), look_up(description, "root")
        if isinstance(name, str):
            event = device.describe({"name": name[:_MAX_NAME]}, now)
            events += [event] if event is not None else []
        if isinstance(root, str) and root:
            events += self.set_parent(device, self._root_key({**match.names, "device": root}), now)
        return events

    def _root_key(self, names: dict[str, str]) -> str:
        return "root " + self._key(names)[0]

    def mean(self, device: Device, meaning: str, message: Incoming, now: int) -> Events:
        """Return the events of a state: of the device, and of its children if it is a root."""
        events = super().mean(device, meaning, message, now)
        key = "root " + device.user_id
        if meaning in {"gone", "left"}:
            return events + self.parent_gone(key, now)
        return events + self.parent_there(key, now)

    def removed(self, device: Device, now: int) -> Events:
        """End the children of a removed root."""
        return self.parent_gone("root " + device.user_id, now)
