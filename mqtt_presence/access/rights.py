"""Who may write and read which topic on the embedded broker: the pattern rule of contract section 1, pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from mqtt_presence.mqtt.topic_filters import matches, overlaps
from mqtt_presence.protocol.topics import VERBS, Topics

BRIDGE_USER = "bridge"
"""The user name of the bridge on a broker that this package sets up or runs; no other user may have it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one client of one user may do."""

    writes: tuple[tuple[str, ...], ...]
    reads: tuple[tuple[str, ...], ...]

    def may_publish(self, topic: Sequence[str]) -> bool:
        """Say whether the client may publish to this topic, as a will too."""
        return any(matches(pattern, topic) for pattern in self.writes)

    def may_read(self, topic: Sequence[str]) -> bool:
        """Say whether a message on this topic may be delivered to the client."""
        return any(matches(pattern, topic) for pattern in self.reads)

    def may_subscribe(self, topic_filter: Sequence[str]) -> bool:
        """Say whether the filter can match anything the client may read.

        A wider filter than the rule (``status/#``) is granted; ``may_read`` then decides message by message.
        """
        return any(overlaps(pattern, topic_filter) for pattern in self.reads)


def grant(topics: Topics, user: str, client: str, *, bridge: bool = False, operator: bool = False) -> Grant:
    """Return what a client may do (contract section 1, "who may read what").

    Args:
        topics: the topics under the prefix in use.
        user: the authenticated user; a name, so no wildcard can hide in it.
        client: its client id, a name as well.
        bridge: this is the presence bridge itself.
        operator: the user is an operator.

    """
    reads = [topics.statuses, f"{topics.prefix}bridge/+", topics.reply(user, client, "+")]
    writes = [topics.input(user, client, verb) for verb in VERBS]
    if operator or bridge:
        reads.append(topics.events)
    if bridge:
        reads.append(f"{topics.presence}#")
        writes = [topics.statuses, topics.events, f"{topics.prefix}bridge/+", topics.reply("+", "+", "+")]
    return Grant(tuple(map(_levels, writes)), tuple(map(_levels, reads)))


def _levels(topic: str) -> tuple[str, ...]:
    return tuple(topic.split("/"))
