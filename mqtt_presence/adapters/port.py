"""What brokers tell of their connections: one small port, and an adapter for each broker that tells.

An adapter reads what its broker says and nothing else; `witness.py` keeps it and makes events of it. What
cannot be read without doubt is None: a client id can imitate a line, but must not speak for others.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.model import Cause, ClientId, Connection, Event, Sighting, UserId


class Adapter(Protocol):
    """Reads topics beside the clients' own: a fleet of devices, or a broker's reports."""

    @property
    def filters(self) -> Sequence[str]:
        """The topic filters of the messages that `read` understands."""

    def read(self, message: Incoming, now: int) -> Iterable[Event]:
        """Return the events of a message; none, if it means nothing for presence.

        Args:
            message: its topic passes one of `filters`.
            now: the time of receipt, epoch milliseconds.

        """


class Fleets(Adapter, Protocol):
    """An adapter of topics that may be retained, and whose state the database restores."""

    @property
    def qos(self) -> Mapping[str, int]:
        """The QoS to subscribe with, for each filter. At QoS 0 nothing waits for a bridge that is away."""

    @property
    def max_packet(self) -> int:
        """The largest packet that `read` can use, bytes."""

    @property
    def origins(self) -> Sequence[str]:
        """The origins of its records."""

    @property
    def reconnecting(self) -> frozenset[str]:
        """The origins of devices that publish again after a restart of the broker (rule B3)."""

    def restore(self, records: Iterable[Connection]) -> None:
        """Learn the state that the last run left.

        Args:
            records: the latest record of each client with one of `origins`.

        """

    def connected(self) -> None:
        """Begin a new connection to the broker, which sends its retained messages again."""

    def seen_retained(self, now: int) -> Iterable[Sighting]:
        """Return signs of life of the devices that are there by a retained message of this connection."""

    def read(self, message: Incoming, now: int) -> Iterable[Event]:
        """See `Adapter`.

        Raises:
            PayloadError: the message is refused; its reason is counted.

        """


class Connected(Struct, frozen=True, gc=False):
    """A client has connected."""

    client_id: ClientId
    user_id: UserId
    """Whom the broker authenticated."""
    address: str | None
    peer: int
    """A number that no other connection of this client has; greater than 0."""


class Ended(Struct, frozen=True, kw_only=True, gc=False):
    """A client's connection has ended."""

    client_id: ClientId
    cause: Cause
    user_id: UserId | None = None
    """None: not told, it is the user of the latest connection with this client id."""
    peer: int | None = None
    """Which one, as in `Connected`; None: not told."""
    endpoint: int | None = None
    """Which one by its address and port, `Connected.peer` modulo 2**32; None: not told."""
    second: int | None = None
    """When, by the clock of `Connected.peer` divided by 2**32; None: not told."""


class Source(Protocol):
    """Reads what one kind of broker says."""

    @property
    def filters(self) -> Sequence[str]:
        """The topic filters to subscribe to."""

    @property
    def keeps(self) -> bool:
        """What it says waits for a bridge that is away, at QoS 1."""

    @property
    def names_ends(self) -> bool:
        """An end always tells which connection of its client it is of."""

    dialect: str | None
    """How what it says is to be read, where that differs; to be kept with the database."""

    def read(self, topic: str, payload: bytes) -> Connected | Ended | None:
        """Understand a message; None: it says nothing of a connection, or not without doubt."""


def plain_address(text: str) -> str | None:
    """Return the address as people write it, one of IPv4 as such; None: it is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
