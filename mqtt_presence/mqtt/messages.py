"""mqtt.messages."""

from typing import Any

from msgspec import Struct


class Incoming(Struct, frozen=True, gc=False):
    """A message from the broker. It must be given to `Link.ack` when its effect is committed."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    """The broker has sent it before, and knows of no acknowledgement."""
    mid: int
    epoch: int
    """Which connection it came by: its packet id means another message on the next one."""
    oversize: int = 0
    """How many bytes it had when it was too large to be kept: its payload is not here. 0: it is."""


class Outgoing(Struct, frozen=True, gc=False):
    """A message for the broker, QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False
    ticket: Any = None
    """Handed back in `Arrivals.delivered` when the broker has acknowledged it; None: not wanted."""
    this_connection_only: bool = False
    """It tells of the connection that it goes by: it is not sent again by the next one."""
    replaced: tuple[Any, ...] = ()
    """The tickets of older messages that need not be sent because of this one."""
