"""Sparkplug B 3.0: births and deaths are protobuf, and `bdSeq` ties a death to its birth.

Needs the extra `[sparkplug]` (protobuf). Only the fields that presence needs are described here: protobuf
skips the others.
"""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from mqtt_presence.adapters.devices.device import Device
from mqtt_presence.adapters.devices.fleet import Fleet
from mqtt_presence.adapters.devices.fleet_rules import NO_MATCH, Events, FleetRule, Handler, Match
from mqtt_presence.adapters.devices.payload_values import decode_json, look_up
from mqtt_presence.adapters.devices.profile import Profile
from mqtt_presence.errors import ConfigError, PayloadError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.protocol.incoming import fresh_connection_id
from mqtt_presence.rules.model import Connection, ConnectionId, Reason

LATE_WILL = "late_will"
_ROOT = "spBv1.0"
NODE_DEATHS = f"{_ROOT}/{{group}}/NDEATH/{{node}}"
_MAX_BIRTH = 1024 * 1024
_BD_SEQ = "bdSeq"
_CLOCK_IS_SET_MS = 1_577_836_800_000
"""2020: a node whose clock is not set counts from 1970, and does so again after each start."""


def has_protobuf() -> bool:
    """Return whether the extra of this profile is installed."""
    try:
        return find_spec("google.protobuf") is not None
    except ModuleNotFoundError:
        return False


class Birth(NamedTuple):
    """The parts of a birth or death that describe the connection of its node."""

    bd_seq: int | None
    timestamp: int


class _Decoder:
    """Reads the payloads of births and deaths.

    Raises:
        ConfigError: protobuf is not installed.

    """

    def __init__(self) -> None:
        try:
            # Imported here: the extra is needed by this profile alone.
            from google.protobuf import (  # noqa: PLC0415
                descriptor_pb2,
                descriptor_pool,
                message,
                message_factory,
            )
        except ImportError:
            raise ConfigError(
                "profile.sparkplug: needs protobuf: pip install 'mqtt-presence-bridge[sparkplug]'"
            ) from None
        self._error = message.DecodeError
        field = descriptor_pb2.FieldDescriptorProto
        file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b_presence.proto", syntax="proto2")
        file.package = "mqtt_presence.sparkplug"
        metric = file.message_type.add(name="Metric")
        metric.field.add(name="name", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
        metric.field.add(name="int_value", number=10, type=field.TYPE_UINT32, label=field.LABEL_OPTIONAL)
        metric.field.add(name="long_value", number=11, type=field.TYPE_UINT64, label=field.LABEL_OPTIONAL)
        payload = file.message_type.add(name="Payload")
        payload.field.add(name="timestamp", number=1, type=field.TYPE_UINT64, label=field.LABEL_OPTIONAL)
        payload.field.add(
            name="metrics",
            number=2,
            type=field.TYPE_MESSAGE,
            type_name=".mqtt_presence.sparkplug.Metric",
            label=field.LABEL_REPEATED,
        )
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._payload: Any = message_factory.GetMessageClass(
            pool.FindMessageTypeByName("mqtt_presence.sparkplug.Payload")
        )

    def read(self, message: Incoming) -> Birth:
        """Return the parts of a payload.

        Raises:
            PayloadError: the payload is no protobuf.

        """
        try:
            payload = self._payload.FromString(message.payload)
        except (self._error, ValueError) as error:
            raise PayloadError(NO_MATCH, f"{message.topic}: {error}") from None
        for metric in payload.metrics:
            if metric.name == _BD_SEQ:
                number = metric.long_value if metric.HasField("long_value") else metric.int_value
                return Birth(int(number), int(payload.timestamp))
        return Birth(None, int(payload.timestamp))


class SparkplugFleet(Fleet):
    """Edge nodes, their devices, and hosts.

    The connection id of a node is ``<bdSeq>-<timestamp of the birth>``: `bdSeq` alone wraps at 255 and begins
    anew at each start of a node without storage.
    """

    revives_children = False  # each device has a birth of its own after that of its node

    def __init__(self, profile: Profile) -> None:
        self._decoder = _Decoder()
        super().__init__(profile)

    def _rules(self) -> Iterable[FleetRule]:
        node, device = f"{_ROOT}/{{group}}/%s/{{node}}", f"{_ROOT}/{{group}}/%s/{{node}}/{{device}}"
        yield from self._of(node % "NBIRTH", 1, _live(self._on_node_birth), max_payload=_MAX_BIRTH)
        yield from self._of(NODE_DEATHS, 1, _live(self._on_node_death))
        yield from self._of(node % "NDATA", 0, _live(self._on_data))
        yield from self._of(device % "DBIRTH", 1, _live(self._on_device_birth), max_payload=_MAX_BIRTH)
        yield from self._of(device % "DDEATH", 1, _live(self._on_device_death))
        yield from self._of(device % "DDATA", 0, _live(self._on_data))
        yield from self._of(f"{_ROOT}/STATE/{{host}}", 1, self._on_host)

    def restore(self, records: Iterable[Connection]) -> None:
        """See `Fleet`. Devices return by their own births only."""
        super().restore(records)
        for device in self.devices.values():
            device.is_ended_by_parent = False

    def _on_node_birth(self, match: Match, message: Incoming, now: int) -> Events:
        self._require_small(match, message)
        birth = self._decoder.read(message)
        if birth.bd_seq is None:
            raise PayloadError(NO_MATCH, f"{message.topic}: a birth without {_BD_SEQ}")
        node = self.device(match.names)
        name = f"{birth.bd_seq}-{birth.timestamp}"
        if not node.is_open and node.connection_id == name:
            return []  # a repeated birth of a connection that has ended: its id is never used again
        node.says_there = True
        self._gone_parents.discard(_node_key(node))
        if node.is_open and _bd_seq(node) == birth.bd_seq:  # a rebirth, asked for by a host
            return self._alive(node, now, message.epoch)
        events = self.parent_gone(_node_key(node), now)
        self._gone_parents.discard(_node_key(node))
        if birth.timestamp < _CLOCK_IS_SET_MS:  # an ended id is never used again, so it must be unique
            name += f"-{fresh_connection_id()[:8]}"
        return [*events, node.login(ConnectionId(name), now)]

    def _on_node_death(self, match: Match, message: Incoming, now: int) -> Events:
        self._require_small(match, message)
        death = self._decoder.read(message)
        node = self.device(match.names)
        known = _bd_seq(node)
        if known is not None and death.bd_seq != known:
            raise PayloadError(LATE_WILL, f"{message.topic}: {_BD_SEQ} {death.bd_seq}, the node has {known}")
        return self.gone(node, Reason.LOST, now, is_live=True) + self.parent_gone(_node_key(node), now)

    def _on_device_birth(self, match: Match, message: Incoming, now: int) -> Events:
        node, device = self._node_of(match), self.device(match.names)
        events = self._node_alive(node, message, now) + self.set_parent(device, _node_key(node), now)
        return events + self.there(device, now, message.epoch, is_live=True)

    def _on_device_death(self, match: Match, message: Incoming, now: int) -> Events:
        del message
        return self.gone(self.device(match.names), Reason.LOST, now, is_live=True)

    def _on_data(self, match: Match, message: Incoming, now: int) -> Events:
        node = self._node_of(match)
        events = self._node_alive(node, message, now)
        if "device" in match.names:
            device = self.device(match.names)
            events += self.set_parent(device, _node_key(node), now)
            events += self._alive(device, now, message.epoch)
        return events

    def _node_of(self, match: Match) -> Device:
        return self.device({name: text for name, text in match.names.items() if name != "device"})

    def _node_alive(self, node: Device, message: Incoming, now: int) -> Events:
        self._gone_parents.discard(_node_key(node))
        return self._alive(node, now, message.epoch)

    def _on_host(self, match: Match, message: Incoming, now: int) -> Events:
        self._require_small(match, message)
        is_online = look_up(decode_json(message.payload), "online")
        if not isinstance(is_online, bool):
            raise PayloadError(NO_MATCH, f"{message.topic}: {message.payload[:80]!a}")
        host = self.device(match.names)
        return self.mean(host, "there" if is_online else "gone", message, now)

    def _key(self, names: Mapping[str, str]) -> tuple[str, str]:
        levels = [names[name] for name in ("group", "node", "device", "host") if name in names]
        return super()._key({"path": "/".join(levels)})

    def _used(self, names: Mapping[str, str]) -> dict[str, str]:
        return dict(names)


def _live(handle: Handler) -> Handler:
    """Return the handler that ignores retained messages: births and deaths must not be retained."""
    return lambda match, message, now: [] if message.retain else handle(match, message, now)


def _node_key(node: Device) -> str:
    return "node " + node.user_id


def _bd_seq(node: Device) -> int | None:
    """Return the `bdSeq` of a node's latest birth; None if it was never heard."""
    number, separator, _ = (node.connection_id or "").partition("-")
    return int(number) if separator and number.isdecimal() else None
