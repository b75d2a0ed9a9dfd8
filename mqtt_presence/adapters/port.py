"""The port of an adapter: messages on other topics in, events of the presence rules out.

`Source` is the port of an adapter for one broker's reports of its network connections. The bridge's
`broker_connections` turns the reports into events. A source returns None for an ambiguous message: a client
can choose an id that imitates a report, and must not end the connections of others.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.rules.events import Event, Sighting
from mqtt_presence.rules.model import Cause, ClientId, Connection, UserId

ENDPOINT = 0xFFFF_FFFE
"""The bits of a network id that have the checksum of address and port."""


class Adapter(Protocol):
    """Reads topics beside the clients' own: a fleet of devices, or a broker's reports."""

    @property
    def filters(self) -> Sequence[str]:
        """The topic filters of the messages that `read` understands."""

    def read(self, message: Incoming, now: int) -> Iterable[Event]:
        """Return the events of a message; an empty result if presence is not concerned.

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
    user_id: UserId | None
    """The user that the broker authenticated; None: the client gave no name."""
    address: str | None
    network_id: int
    """A number that no other connection of this client has; greater than 0."""


class Ended(Struct, frozen=True, kw_only=True, gc=False):
    """A client's connection has ended."""

    client_id: ClientId
    cause: Cause
    user_id: UserId | None = None
    """None: unknown; the user of the latest connection with this client id."""
    network_id: int | None = None
    """The network id of `Connected`; None: unknown."""
    endpoint: int | None = None
    """A checksum of its address and port, of which `ENDPOINT` is in `Connected.network_id`; None: unknown."""
    second: int | None = None
    """The time by the clock of `Connected.network_id` divided by 2**32; None: unknown."""


class ListedClients(Struct, frozen=True, gc=False):
    """A part of the broker's list of connected clients."""

    clients: tuple[Connected, ...]
    is_first: bool
    is_last: bool


Report: TypeAlias = Connected | Ended | ListedClients


class Source(Protocol):
    """Reads the reports of one kind of broker."""

    @property
    def filters(self) -> Sequence[str]:
        """The topic filters to subscribe to."""

    @property
    def keeps(self) -> bool:
        """Whether the broker keeps its reports for an absent bridge, at QoS 1."""

    @property
    def keeps_s(self) -> float:
        """How long the broker keeps its reports for an absent bridge, seconds; infinite: for ever."""

    @property
    def lists(self) -> bool:
        """Whether the broker sends the list of connected clients at each subscription."""

    @property
    def names_ends(self) -> bool:
        """Whether an end always names the connection of its client."""

    def is_gone_at_takeover(self, network_id: int) -> bool:
        """Return whether a connection is never reported again once it is taken over."""

    has_gap: bool
    """Whether a report is missing that the list of connected clients would repair."""
    dialect: str | None
    """The variant of the reports, where versions of the broker differ; the bridge stores it."""

    def read(self, topic: str, payload: bytes) -> Report | None:
        """Return the report in a message; None: it reports no connection, or is ambiguous."""


def plain_address(text: str) -> str | None:
    """Return the address in its usual form, IPv4-mapped ones as IPv4; None: the text is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
