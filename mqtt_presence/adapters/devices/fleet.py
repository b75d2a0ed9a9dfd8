"""A fleet: turns the messages of one profile's topics into events (device profiles in docs/protocol.md)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mqtt_presence.adapters.devices.device import Device
from mqtt_presence.adapters.devices.device_states import DeviceStates
from mqtt_presence.adapters.devices.fleet_rules import (
    NO_MATCH,
    SMALL,
    Events,
    FleetRule,
    Handler,
    Match,
    meaning_of,
)
from mqtt_presence.adapters.devices.payload_values import (
    Value,
    decode_json,
    described,
    look_up,
    same_value,
    seconds_at,
    value_of,
)
from mqtt_presence.adapters.devices.profile import Availability, MetaTopic, Profile
from mqtt_presence.adapters.devices.profile_overlaps import passes
from mqtt_presence.adapters.devices.topic_patterns import fill, parse_pattern, topic_names
from mqtt_presence.errors import PayloadError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.protocol.sizes import TOO_LARGE
from mqtt_presence.protocol.topics import is_name
from mqtt_presence.rules.model import (
    GUESSED,
    Cause,
    ClientId,
    Connection,
    Reason,
    UserId,
)

MAX_DEVICES = 100_000
"""Devices of one fleet that are followed; messages of others are refused."""


class Fleet(DeviceStates):
    """The devices of one profile, and the messages that it reads.

    Args:
        profile: checked.

    """

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self._listed: dict[str, dict[str, Value]] = {}
        of_devices = set().union(*(topic_names(entry.topic) for entry in profile.words.availability))
        self._shared_names = [topic_names(parent.topic) & of_devices for parent in profile.words.parents]
        self.rules = list(self._rules())

    def restore(self, records: Iterable[Connection]) -> None:
        """Learn the devices from their latest records."""
        for record in records:
            if record.origin != self.profile.origin:
                continue
            is_asleep = record.is_open and record.idle is True and record.timeout_ms is not None
            by_parent = record.cause is Cause.PARENT
            self.devices[record.user_id, record.client_id] = Device(
                self.profile,
                record.user_id,
                record.client_id,
                None,
                connection_id=record.connection_id,
                is_open=record.is_open,
                is_guessed=record.reason in GUESSED,
                says_there=record.is_open or by_parent,
                is_ended_by_parent=by_parent,
                is_asleep=is_asleep,
                asleep_until=record.last_seen + (record.timeout_ms or 0)
                if is_asleep and self.profile.words.sleep is not None
                else None,
            )

    def matches(self, rules: Iterable[FleetRule], topic: Sequence[str]) -> list[Match]:
        """Return the matches of a topic that passes the filters of these rules, if its names fit."""
        named = [(rule, rule.pattern.names(topic)) for rule in rules]
        fitting = [(rule, names) for rule, names in named if passes(self.profile.words, names)]
        is_parent = any(rule.is_parent for rule, _ in fitting)
        return [Match(rule, names, is_parent) for rule, names in fitting]

    # The rules of the words.

    def _rules(self) -> Iterable[FleetRule]:
        words = self.profile.words
        by_topic: dict[str, list[Availability]] = {}
        for entry in words.availability:
            by_topic.setdefault(entry.topic, []).append(entry)
        for number, parent in enumerate(words.parents):
            yield from self._of(parent.topic, 1, self._on_parent, (number, parent), is_parent=True)
        for topic, entries in by_topic.items():
            yield from self._of(topic, 1, self._on_availability, tuple(entries))
        for topic in words.heartbeat:
            yield from self._of(topic, 0, self._on_heartbeat)
        if words.sleep is not None:
            yield from self._of(words.sleep.topic, 1, self._on_sleep)
        for meta in words.meta:
            yield from self._of(meta.topic, 0, self._on_meta, meta)
        if words.meta_list is not None:
            yield from self._of(words.meta_list.topic, 0, self._on_meta_list, max_payload=1024 * 1024)

    def _of(
        self,
        topic: str,
        qos: int,
        handle: Handler,
        words: Any = None,
        *,
        max_payload: int = SMALL,
        is_parent: bool = False,
    ) -> Iterable[FleetRule]:
        for pattern in parse_pattern(topic, self.profile.words.depth):
            yield FleetRule(pattern, qos, handle, words, max_payload, is_parent)

    # Handlers: a match, its message and the time of receipt in; events out.

    def _on_availability(self, match: Match, message: Incoming, now: int) -> Events:
        entries: tuple[Availability, ...] = match.rule.words
        fixed = entries[0].device
        names = match.names if fixed is None else {**match.names, "device": fixed}
        self._require_small(match, message)
        if not message.payload:
            return self._on_removed(names, now)
        for entry in entries:
            meaning = meaning_of(entry, value_of(message.payload, entry.path))
            if meaning is not None:
                device = self.device(names, is_parent=match.is_parent)
                return self.mean(device, meaning, message, now)
        raise PayloadError(NO_MATCH, f"{message.topic}: {message.payload[:80]!a}")

    def mean(self, device: Device, meaning: str, message: Incoming, now: int) -> Events:
        """Return the events of an availability."""
        is_live = not message.retain
        match meaning:
            case "there":
                return self.there(device, now, message.epoch, is_live=is_live)
            case "gone":
                return self.gone(device, Reason.LOST, now, is_live=is_live)
            case "left":
                return self.gone(device, Reason.LOGOUT, now, is_live=is_live)
            case "asleep":
                until_ms = self.profile.sleep_timeout_ms
                return self._asleep(device, until_ms, now, is_live=is_live)
            case "activity":
                return self._alive(device, now, message.epoch) if is_live else []
        if not is_live and not device.is_open:  # "idle" and "active"
            return []
        events = self._alive(device, now, message.epoch) if is_live else []
        return (
            [*events, device.sighting(now, is_live=is_live, idle=meaning == "idle")] if device.is_open else []
        )

    def _on_heartbeat(self, match: Match, message: Incoming, now: int) -> Events:
        if message.retain or not (message.payload or message.oversize):
            return []
        return self._alive(self.device(match.names), now, message.epoch)

    def _on_sleep(self, match: Match, message: Incoming, now: int) -> Events:
        sleep = self.profile.words.sleep
        if sleep is None or message.retain or message.oversize:  # the age of a retained one is unknown
            return []
        seconds = seconds_at(message.payload, sleep.seconds)
        if seconds is None or not 0 < seconds < 366 * 86_400:
            raise PayloadError(NO_MATCH, f"{message.topic}: {message.payload[:80]!a}")
        device = self.device(match.names)
        timeout_ms = round(seconds * 1000) + self.profile.slack_ms
        events = self._asleep(device, timeout_ms, now, is_live=True)
        device.asleep_until = now + timeout_ms
        return events

    def _on_meta(self, match: Match, message: Incoming, now: int) -> Events:
        meta: MetaTopic = match.rule.words
        self._require_small(match, message)
        fields = described(decode_json(message.payload), meta.fields)
        if not fields:
            return []
        event = self.device(match.names).describe(fields, now)
        return [event] if event is not None else []

    def _on_meta_list(self, match: Match, message: Incoming, now: int) -> Events:
        words = self.profile.words.meta_list
        self._require_small(match, message)
        listed = decode_json(message.payload)
        if words is None or not isinstance(listed, list):
            return []
        self._listed = {}
        for item in listed[:MAX_DEVICES]:
            name, fields = look_up(item, words.key), described(item, words.fields)
            if isinstance(name, str) and fields:
                self._listed[name] = fields
        events = (
            device.describe(self._listed[name], now)
            for device in list(self.devices.values())
            if (name := (device.names or {}).get("device", "")) in self._listed
        )
        return [event for event in events if event is not None]

    def _on_parent(self, match: Match, message: Incoming, now: int) -> Events:
        number, parent = match.rule.words
        key = self._parent_key(number, match.names)
        self._require_small(match, message)
        values = [value_of(message.payload, parent.path), value_of(message.payload, None)]
        if any(same_value(value, gone) for value in values for gone in parent.gone):
            return self.parent_gone(key, now)
        if not parent.there or any(same_value(value, there) for value in values for there in parent.there):
            return self.parent_there(key, now)
        return []

    def _on_removed(self, names: Mapping[str, str], now: int) -> Events:
        """End a device whose topic was cleared, and forget it."""
        device = self.devices.pop(self._key(names), None)
        if device is None:
            return []
        event = device.end(Reason.LOGOUT, now)
        return [*([event] if event is not None else []), *self.removed(device, now)]

    def removed(self, device: Device, now: int) -> Events:
        """Return further events of a removal."""
        del device, now
        return []

    # Devices.

    def device(self, names: Mapping[str, str], *, is_parent: bool = False) -> Device:
        """Return the device that a topic names.

        Raises:
            PayloadError: the name cannot be one, belongs to another device, or is one too many.

        """
        key = self._key(names)
        device = self.devices.get(key)
        if device is None:
            if len(self.devices) >= MAX_DEVICES:
                raise PayloadError("too_many_devices", key[0])
            device = self.devices[key] = Device(self.profile, UserId(key[0]), ClientId(key[1]), None)
        if device.names is None:
            device.names = names
            if not is_parent:
                device.parents |= {self._parent_key(n, names) for n in range(len(self._shared_names))}
            device.meta = {**self._listed.get(names.get("device", ""), {}), **device.meta}
        elif self._used(device.names) != self._used(names):
            raise PayloadError("name_taken", f"{key[0]} is {dict(device.names)}")
        return device

    def _parent_key(self, number: int, names: Mapping[str, str]) -> str:
        return " ".join((str(number), *(names.get(name, "") for name in sorted(self._shared_names[number]))))

    def _used(self, names: Mapping[str, str]) -> dict[str, str]:
        """Return the names that user or client are made of."""
        return {name: text for name, text in names.items() if self._is_used(name)}

    def _is_used(self, name: str) -> bool:
        return f"{{{name}}}" in self.profile.user or f"{{{name}}}" in self.profile.client

    def _key(self, names: Mapping[str, str]) -> tuple[str, str]:
        try:
            user, client = fill(self.profile.user, names), fill(self.profile.client, names)
        except KeyError as error:
            raise PayloadError("bad_name", f"{self.profile.name} lacks {error}") from None
        if not is_name(user) or not is_name(client):
            raise PayloadError("bad_name", ascii(user[:200]))
        return user, client

    def _require_small(self, match: Match, message: Incoming) -> None:
        size = message.oversize or len(message.payload)
        if message.oversize or size > match.rule.max_payload:
            raise PayloadError(TOO_LARGE, f"{message.topic}: {size} bytes")
