"""Rights of clients to publish and read topics on the embedded broker (docs/protocol.md, "Topics"). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mqtt_presence.mqtt.topic_filters import matches, overlaps
from mqtt_presence.protocol.topics import CLIENT_REPORTS, VERBS, Topics, roots

BRIDGE_USER = "bridge"
"""The user name of the bridge on a broker that this package sets up or runs; reserved for the bridge."""


class Profiles(Protocol):
    """The device profiles in use."""

    @property
    def filters(self) -> Sequence[str]:
        """The topic filters that the bridge subscribes to."""

    def reads(self, topic: str) -> bool:
        """Return whether a profile reads a topic."""


class DeviceTopics:
    """The topics that the profiles read, without those of the protocol itself.

    Args:
        topics: the topics under the prefix in use.
        profiles: in use; their filters may be as wide as ``+/status``.

    """

    def __init__(self, topics: Topics, profiles: Profiles) -> None:
        self._roots = roots(topics.prefix)
        self._profiles = profiles
        self.filters = tuple(profiles.filters)

    def has(self, topic: str) -> bool:
        """Return whether a topic is one of a device."""
        return not topic.startswith(self._roots) and self._profiles.reads(topic)


@dataclass(frozen=True, slots=True)
class Rights:
    """The topic filters that one client may publish to and read."""

    writes: tuple[tuple[str, ...], ...]
    reads: tuple[tuple[str, ...], ...]
    devices: DeviceTopics | None = None
    """The topics of devices, which the client may publish to as well."""

    def may_publish(self, topic: Sequence[str]) -> bool:
        """Return whether the client may publish to a topic, itself or by its will."""
        if any(matches(pattern, topic) for pattern in self.writes):
            return True
        return self.devices is not None and self.devices.has("/".join(topic))

    def may_read(self, topic: Sequence[str]) -> bool:
        """Return whether a message on a topic may be delivered to the client."""
        return any(matches(pattern, topic) for pattern in self.reads)

    def may_subscribe(self, topic_filter: Sequence[str]) -> bool:
        """Return whether a filter can match a topic that the client may read.

        A wider filter than the client's rights (``status/#``) is allowed; `may_read` then decides for each
        message.
        """
        return any(overlaps(pattern, topic_filter) for pattern in self.reads)


def rights_of(
    topics: Topics,
    user: str,
    client: str,
    *,
    bridge: bool = False,
    operator: bool = False,
    discovery_prefix: str | None = None,
    devices: DeviceTopics | None = None,
) -> Rights:
    """Return the rights of a client.

    Args:
        topics: the topics under the prefix in use.
        user: the authenticated user; `is_name` holds, so it has no wildcard.
        client: the client id, for which `is_name` holds too.
        bridge: the user is the presence bridge.
        operator: the user is an operator.
        discovery_prefix: that of Home Assistant, which may connect as any user; None: there is none.
        devices: every client may publish to them, and the bridge reads them.

    """
    reads = [topics.statuses, f"{topics.prefix}bridge/+", topics.reply(user, client, "+")]
    writes = [topics.input(user, client, verb) for verb in VERBS]
    if operator or bridge:
        reads.append(topics.events)
    if bridge:
        reads += [f"{topics.presence}#", CLIENT_REPORTS]
        writes = [topics.statuses, topics.events, f"{topics.prefix}bridge/+", topics.reply("+", "+", "+")]
        reads += () if devices is None else devices.filters
    if discovery_prefix is not None:
        reads.append(f"{discovery_prefix}/#")
        writes.append(f"{discovery_prefix}/{'device/+/config' if bridge else 'status'}")
    return Rights(tuple(map(_levels, writes)), tuple(map(_levels, reads)), None if bridge else devices)


def _levels(topic: str) -> tuple[str, ...]:
    return tuple(topic.split("/"))
