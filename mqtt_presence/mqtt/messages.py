"""Application messages as the bridge receives and publishes them, without any MQTT library."""

import zlib
from typing import Any

from msgspec import Struct


class Incoming(Struct, frozen=True, gc=False):
    """A message from the broker. The bridge acknowledges it (`Link.ack`) once its effect is committed."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    """The broker has sent the message before, and has no acknowledgement."""
    mid: int
    """The packet id; 0 at QoS 0."""
    epoch: int
    """The number of the network connection, since a packet id has a meaning on its own connection only."""
    oversize: int = 0
    """Bytes of a payload too large to be kept, which is then empty; 0: the payload is complete."""


class Outgoing(Struct, frozen=True, gc=False):
    """A message to be published at QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False
    ticket: Any = None
    """Returned in `Arrivals.delivered` after the broker's acknowledgement; None: not wanted."""
    this_connection_only: bool = False
    """The message concerns the current network connection, and the next one does not send it again."""
    replaced: tuple[Any, ...] = ()
    """The tickets of older messages that this message makes unnecessary."""


def checksum_of(message: Incoming) -> int:
    """Return a checksum of topic and payload."""
    return zlib.crc32(message.payload, zlib.crc32(message.topic.encode()))


def is_repetition(message: Incoming, known: tuple[int, int] | None) -> bool:
    """Return whether the broker sends a known message again.

    Args:
        message: the message that has arrived.
        known: the checksum of the message that had its packet id before, and a number; None: there is none.

    """
    return message.dup and known is not None and known[0] == checksum_of(message)
